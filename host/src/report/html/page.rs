//! The page: sections of text, tables and drawings over one [`ReportData`].
//!
//! Forms of numbers are here and nowhere else: a figure's text is its JSON value, rounded, times 100 for percent and in
//! megabytes for sizes.

use super::charts::{Bar, Group, bars, histogram, short};
use super::data::{BoardData, LayerData, ReportData, Source, Worst};
use super::layers::Main;
use super::network::{drawing, shape};
use super::svg::{escape, figure};
use crate::report::Rates;

/// How the page looks.
const STYLE: &str = include_str!("style.css");
/// Nothing may be loaded, nothing may run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The page. `images` has a data URL for each of the worst pictures.
///
/// # Errors
/// None for data that JSON can hold.
pub(super) fn page(data: &ReportData, images: &[String]) -> anyhow::Result<String> {
    // `<` would end the block.
    let json = serde_json::to_string(data)?.replace('<', "\\u003c");
    let title = escape(&format!("{} {}: quantization report", data.network, data.scheme));
    let sections = [
        head(data),
        network(data),
        layers(data),
        sensitivity(data),
        histograms(data),
        boards(data),
        accuracy(data),
        worst(data, images),
        made(data),
    ];
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{}\n<script type=\"application/json\" id=\"data\">{json}</script>\n</body>\n</html>\n",
        sections.join("\n")
    ))
}

fn megabytes(key: &str, bytes: f64) -> String {
    format!("{} MB", figure(key, &format!("{:.3}", bytes / 1e6)))
}

fn percent(key: &str, rate: f64) -> String {
    format!("{} %", figure(key, &format!("{:.2}", 100.0 * rate)))
}

fn number(key: &str, value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| figure(key, &format!("{value:.digits$}")))
}

/// A table; the first row is the header. Cells are markup.
fn table(caption: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    let header: String = header.iter().map(|h| format!("<th scope=\"col\">{h}</th>")).collect();
    let row = |row: &Vec<String>| {
        let cells: String = row
            .iter()
            .enumerate()
            .map(|(i, cell)| match i {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td>{cell}</td>"),
            })
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table><caption>{caption}</caption>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>"
    )
}

fn section(id: &str, title: &str, body: &str) -> String {
    format!("<section id=\"{id}\"><h2>{title}</h2>\n{body}\n</section>")
}

fn head(data: &ReportData) -> String {
    let bytes = &data.bytes;
    let agreement = data.accuracy.agreement.map_or_else(String::new, |agreement| {
        let rate = percent("/accuracy/agreement", agreement);
        format!("; {rate} of {} pictures answered as in f32", data.accuracy.pictures)
    });
    format!(
        "<header><h1>{} in {}</h1>\n<p class=\"dim\">{}, planned for {}</p>\n<p>{} instead of {} of f32 weights{agreement}.</p></header>",
        escape(&data.network),
        escape(&data.scheme),
        escape(&data.weights),
        escape(&data.board),
        megabytes("/bytes/file", bytes.file as f64),
        megabytes("/bytes/f32", bytes.weights.f32 as f64),
    )
}

fn network(data: &ReportData) -> String {
    let text = format!(
        "<p class=\"dim\">Bars are as wide as the logarithm of the number of values; right: shape and SQNR with all layers before. \
         {} weights and biases, {} multiply-accumulates a picture.</p>\n{}",
        figure("/params", &data.params.to_string()),
        figure("/macs", &data.macs.to_string()),
        drawing(data)
    );
    section("network", "Network", &text)
}

fn layers(data: &ReportData) -> String {
    let row = |(i, layer): (usize, &LayerData)| {
        let key = |field: &str| format!("/layers/{i}/{field}");
        let source = |of: fn(&Source) -> Option<f64>, field: &str| {
            number(&key(&format!("source/{field}")), layer.source.as_ref().and_then(of), 2)
        };
        let main = match layer.source.map(|s| s.main) {
            Some(Main::Weights) => figure(&key("source/main"), "weights"),
            Some(Main::Activations) => figure(&key("source/main"), "activations"),
            None => "-".to_owned(),
        };
        vec![
            escape(&layer.name),
            escape(&layer.kind),
            shape(&layer.output),
            escape(&layer.algorithm),
            number(&key("sqnr_db"), layer.sqnr_db, 2),
            number(&key("predicted_db"), layer.predicted_db, 2),
            source(|s| s.weights_db, "weights_db"),
            source(|s| s.activations_db, "activations_db"),
            source(|s| s.both_db, "both_db"),
            main,
            megabytes(&key("bytes"), layer.bytes as f64),
            number(&key("ms_1"), layer.ms_1, 3),
            number(&key("ms_n"), layer.ms_n, 3),
        ]
    };
    let header = [
        "layer",
        "kind",
        "output",
        "algorithm",
        "SQNR dB",
        "predicted dB",
        "weights dB",
        "activations dB",
        "alone dB",
        "main error",
        "weights",
        "ms, 1 thread",
        "ms, all cores",
    ];
    let rows: Vec<_> = data.layers.iter().enumerate().map(row).collect();
    let caption = format!(
        "Signal to quantization noise. SQNR: with all layers before, on {} pictures. Predicted: of an approximate algorithm, \
         its own error on an input without any. Weights, activations, alone: only this \
         layer's weights, only its output, or both quantized, its input in f32, on {} pictures; layers computed directly. \
         Milliseconds: estimated for {}.",
        figure("/accuracy/pictures", &data.accuracy.pictures.to_string()),
        figure("/layer_pictures", &data.layer_pictures.to_string()),
        escape(&data.board),
    );
    let bar = |key: String, value: Option<f64>, class| {
        value.map(|value| Bar { key, value, text: format!("{value:.1}"), class })
    };
    let groups: Vec<Group> = (data.layers.iter().enumerate())
        .filter(|(_, l)| l.source.is_some())
        .map(|(i, l)| Group {
            label: l.name.clone(),
            bars: [
                bar(format!("/layers/{i}/source/weights_db"), l.source.and_then(|s| s.weights_db), "w"),
                bar(
                    format!("/layers/{i}/source/activations_db"),
                    l.source.and_then(|s| s.activations_db),
                    "a",
                ),
                bar(format!("/layers/{i}/sqnr_db"), l.sqnr_db, "b"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        })
        .collect();
    let key = "<p class=\"key dim\">dB, longer is better:<i class=\"w\"></i>only weights<i class=\"a\"></i>only activations\
               <i class=\"b\"></i>all, with the layers before</p>";
    let chart = bars("signal to quantization noise of each layer, dB", &groups);
    section(
        "layers",
        "Layers and where their error comes from",
        &format!("{key}\n{chart}\n{}", table(&caption, &header, &rows)),
    )
}

/// Divergence of the network, or the share of its output that is error.
fn sensitivity(data: &ReportData) -> String {
    let groups: Vec<Group> = (data.layers.iter().enumerate())
        .filter_map(|(i, l)| {
            let value = l.sensitivity?;
            let key = format!("/layers/{i}/sensitivity");
            Some(Group {
                label: l.name.clone(),
                bars: vec![Bar { key, value, text: format!("{value:.2e}"), class: "b" }],
            })
        })
        .collect();
    let unit = match data.classifier {
        true => "mean Kullback-Leibler divergence of the probabilities from f32's, nats",
        false => "share of the output's energy that is error",
    };
    let text = format!(
        "<p>What the network loses when only this layer's weights and output are quantized and all others stay in f32: {unit}, \
         on {} calibration pictures. Longer is worse.</p>\n{}",
        data.layer_pictures,
        bars(&format!("sensitivity of the network to each layer: {unit}"), &groups)
    );
    section("sensitivity", "Sensitivity", &text)
}

fn histograms(data: &ReportData) -> String {
    let mut figures = String::new();
    for (i, layer) in data.layers.iter().enumerate() {
        if let Some(weights) = &layer.weights {
            let title = format!("weights of {}", layer.name);
            let around = |end: f64| (-end, end);
            let steps = layer.weight_steps;
            let text = steps.map_or_else(String::new, |s| {
                let key = |end: &str| format!("/layers/{i}/weight_steps/{end}");
                let (finest, coarsest) = (short(s.finest), short(s.coarsest));
                format!(
                    "; channels reach ±{} to ±{}",
                    figure(&key("finest"), &finest),
                    figure(&key("coarsest"), &coarsest)
                )
            });
            let svg = histogram(
                &title,
                "w",
                weights,
                steps.map(|s| around(s.coarsest)),
                steps.map(|s| around(s.finest)),
            );
            figures.push_str(&format!(
                "<figure data-weights=\"{i}\">{svg}<figcaption>{}{text}</figcaption></figure>\n",
                escape(&title)
            ));
        }
        if let Some(activations) = &layer.activations {
            let title = format!("output of {}", layer.name);
            let text = layer.range.as_ref().map_or_else(String::new, |r| {
                let key = |field: &str| format!("/layers/{i}/range/{field}");
                format!(
                    "; stored from {} to {} ({}), {} clipped",
                    figure(&key("min"), &short(r.min)),
                    figure(&key("max"), &short(r.max)),
                    escape(&r.method),
                    format_args!("{} %", figure(&key("clipped"), &format!("{:.4}", 100.0 * r.clipped))),
                )
            });
            let svg = histogram(&title, "a", activations, layer.range.as_ref().map(|r| (r.min, r.max)), None);
            figures.push_str(&format!(
                "<figure data-activations=\"{i}\">{svg}<figcaption>{}{text}</figcaption></figure>\n",
                escape(&title)
            ));
        }
    }
    let text = format!(
        "<p>Values in f32; heights are logarithms of counts. Shaded, between the lines: what can be stored. Weights have a range a \
         channel, the widest and the narrowest are shaded; activations come from {} calibration pictures.</p>\n<div class=\"grid\">\n{figures}</div>",
        figure("/calibration_pictures", &data.calibration_pictures.to_string())
    );
    section("histograms", "Weights and activations with their ranges", &text)
}

fn boards(data: &ReportData) -> String {
    let time = |(i, b): (usize, &BoardData)| {
        let bar = |field: &str, value: f64, class| Bar {
            key: format!("/boards/{i}/{field}"),
            value,
            text: format!("{value:.2}"),
            class,
        };
        Group { label: b.name.clone(), bars: vec![bar("ms_1", b.ms_1, "w"), bar("ms_n", b.ms_n, "a")] }
    };
    let times: Vec<Group> = data.boards.iter().enumerate().map(time).collect();
    let weights = &data.bytes.weights;
    let size = |label: &str, key: &str, bytes: u64, class| Group {
        label: label.to_owned(),
        bars: vec![Bar {
            key: format!("/bytes/{key}"),
            value: bytes as f64,
            text: format!("{:.3}", bytes as f64 / 1e6),
            class,
        }],
    };
    let sizes = [
        size("f32 weights", "f32", weights.f32, "w"),
        size("f16 weights", "f16", weights.f16, "w"),
        size("int8 weights", "int8", weights.int8, "w"),
        size("int8-fc4 weights", "int8_fc4", weights.int8_fc4, "w"),
        size("this file", "file", data.bytes.file, "a"),
        size("its arena", "arena", data.bytes.arena, "b"),
    ];
    let row = |(i, b): (usize, &BoardData)| {
        let key = |field: &str| format!("/boards/{i}/{field}");
        vec![
            format!("{} ({})", escape(&b.title), escape(&b.name)),
            figure(&key("cores"), &b.cores.to_string()),
            number(&key("ms_1"), Some(b.ms_1), 2),
            number(&key("ms_n"), Some(b.ms_n), 2),
            megabytes(&key("traffic"), b.traffic),
            megabytes(&key("arena"), b.arena as f64),
        ]
    };
    let rows: Vec<_> = data.boards.iter().enumerate().map(row).collect();
    let header = ["board", "cores", "ms, 1 thread", "ms, all cores", "memory traffic", "arena"];
    let caption = format!(
        "This file, planned for {}, on each board: estimated from counted instructions, not measured.",
        escape(&data.board)
    );
    if rows.is_empty() {
        let sizes = bars("sizes, MB", &sizes);
        let text = format!(
            "<p>Size, MB:</p>\n{sizes}\n<p>No latency: this file's kernels were not counted on any board.</p>"
        );
        return section("boards", "Size and latency", &text);
    }
    let text = format!(
        "<p>Size, MB:</p>\n{}\n<p class=\"key dim\">Milliseconds a picture, estimated:<i class=\"w\"></i>one thread<i class=\"a\"></i>all big cores</p>\n{}\n{}",
        bars("sizes, MB", &sizes),
        bars("estimated latency on each board, milliseconds", &times),
        table(&caption, &header, &rows)
    );
    section("boards", "Size and latency", &text)
}

fn accuracy(data: &ReportData) -> String {
    let a = &data.accuracy;
    let mut rows = Vec::new();
    let rate = |name: &str, of: fn(&Rates) -> (f64, [f64; 2]), field: &str| {
        let cell = |key: &str, rates: &Option<Rates>| {
            rates.as_ref().map_or_else(
                || "-".to_owned(),
                |rates| {
                    let (rate, [low, high]) = of(rates);
                    let key = format!("/accuracy/{key}/{field}");
                    let end = |i: usize, end| percent(&format!("{key}_interval/{i}"), end);
                    format!("{} ({} to {})", percent(&key, rate), end(0, low), end(1, high))
                },
            )
        };
        vec![name.to_owned(), cell("f32", &a.f32), cell("blob", &a.blob)]
    };
    if a.f32.is_some() {
        rows.push(rate("top-1", |r| (r.top1, r.top1_interval), "top1"));
        rows.push(rate("top-5", |r| (r.top5, r.top5_interval), "top5"));
    }
    if let (Some(agreement), Some([low, high])) = (a.agreement, a.agreement_interval) {
        let end = |i: usize, end| percent(&format!("/accuracy/agreement_interval/{i}"), end);
        let text =
            format!("{} ({} to {})", percent("/accuracy/agreement", agreement), end(0, low), end(1, high));
        rows.push(vec!["same first class as f32".to_owned(), String::new(), text]);
    }
    if let Some(kl) = a.mean_kl {
        let text = format!("{} nats", figure("/accuracy/mean_kl", &format!("{kl:.6}")));
        rows.push(vec!["mean divergence from f32".to_owned(), String::new(), text]);
    }
    if let Some(gate) = &a.gate {
        let text = format!(
            "{} {} on {} {} pictures, allowed {}",
            figure("/accuracy/gate/drop", &format!("{:.2}", gate.drop)),
            gate.measure,
            figure("/accuracy/gate/pictures", &gate.pictures.to_string()),
            if a.gate_labelled { "labelled" } else { "calibration" },
            figure("/accuracy/gate/max_drop", &gate.max_drop.to_string()),
        );
        rows.push(vec!["drop".to_owned(), String::new(), text]);
    }
    if rows.is_empty() {
        let db = data.layers.last().and_then(|l| l.sqnr_db);
        let key = format!("/layers/{}/sqnr_db", data.layers.len().saturating_sub(1));
        rows.push(vec![
            "SQNR of the features".to_owned(),
            String::new(),
            format!("{} dB", number(&key, db, 2)),
        ]);
    }
    let caption = format!(
        "On {} calibration pictures, the ones that ranges were chosen on; 95 % confidence intervals. Measure with \
         <code>eval</code> on others.",
        a.pictures
    );
    section("accuracy", "Accuracy", &table(&caption, &["", "f32", escape(&data.scheme).as_str()], &rows))
}

fn worst(data: &ReportData, images: &[String]) -> String {
    if data.worst.is_empty() {
        return section("worst", "Pictures furthest off", "<p>A feature extractor has no answers.</p>");
    }
    let one = |(i, (w, image)): (usize, (&Worst, &String))| {
        let key = |field: &str| format!("/worst/{i}/{field}");
        let class = w
            .class
            .as_ref()
            .map_or_else(String::new, |class| format!("<br>is <b>{}</b>", figure(&key("class"), class)));
        format!(
            "<figure><img alt=\"{name}\" src=\"{image}\"><figcaption>{name}{class}<br>f32: {} {}<br><span{}>{}: {} {}</span><br>divergence {}</figcaption></figure>",
            figure(&key("reference"), &w.reference),
            figure(&key("reference_probability"), &format!("{:.3}", w.reference_probability)),
            if w.changed { " class=\"changed\"" } else { "" },
            escape(&data.scheme),
            figure(&key("answer"), &w.answer),
            figure(&key("probability"), &format!("{:.3}", w.probability)),
            figure(&key("kl"), &format!("{:.5}", w.kl)),
            name = escape(&w.picture),
        )
    };
    let figures: Vec<String> = data.worst.iter().zip(images).enumerate().map(one).collect();
    let text = format!(
        "<p>Of {} calibration pictures those whose first class changed, then those whose probabilities diverge most, in nats.</p>\n<div class=\"grid\">\n{}\n</div>",
        data.accuracy.pictures,
        figures.join("\n")
    );
    section("worst", "Pictures furthest off", &text)
}

fn made(data: &ReportData) -> String {
    let v = &data.versions;
    let row = |name: &str, key: &str, text: &str| {
        vec![name.to_owned(), format!("<span class=\"wrap\">{}</span>", figure(key, text))]
    };
    let rows = [
        row("program", "/versions/tool", &v.tool),
        row("needs Rust", "/versions/rust", &v.rust),
        row("blob format", "/versions/blob_format", &v.blob_format.to_string()),
        row("measured with kernel", "/versions/kernel", &v.kernel),
        row("measured on", "/versions/system", &v.system),
        row("weights", "/weights", &data.weights),
        row("format of the weights", "/weights_format", &data.weights_format),
        row("SHA-256 of the blob", "/versions/blob_sha256", &v.blob_sha256),
    ];
    let text = format!(
        "<pre>{}</pre>\n{}",
        figure("/command", &data.command),
        table("Versions and files", &["", "found"], &rows)
    );
    section("made", "How this was made", &text)
}
