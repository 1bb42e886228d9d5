//! `classify bench`: exactly so many runs, the time of every layer, and whether a board keeps its speed.

use super::Bench;

#[test]
fn bench_times_exactly_so_many_runs() {
    let bench = Bench::new();
    let ran = bench.run("bench model.vgg --threads 1 --runs 7 --json");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["runs"], &json["threads"]), (&7.into(), &1.into()));
    let [min, median, p95, max] = ["min", "median", "p95", "max"].map(|key| json[key].as_f64().unwrap());
    assert!(0.0 < min && min <= median && median <= p95 && p95 <= max, "{json}");
    let ran = bench.run("bench model.vgg --threads 2 --runs 3 --kernel scalar");
    assert!(ran.stdout.contains("scalar, 2 threads, 3 runs\nmedian "), "{ran:?}");
}

#[test]
fn bench_tells_where_the_time_went() {
    let bench = Bench::new();
    let ran = bench.run("bench model.vgg --threads 1 --runs 2 --profile --json");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let layers: Vec<&str> =
        json["layers"].as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(layers, ["block1_conv1", "block1_pool", "avgpool", "dense"]);
    assert!(
        json["layers"].as_array().unwrap().iter().all(|layer| layer["ms"].as_f64().unwrap() > 0.0),
        "{json}"
    );
    // Small maps: one band.
    assert_eq!(json["steps"], serde_json::json!([0, 1, 2, 3]));
    let ran = bench.run("bench model.vgg --runs 2 --profile");
    // The third line is of the board's sensors, where there are any.
    let lines = ran.stdout.lines().filter(|line| !line.starts_with("board "));
    assert_eq!((ran.code, lines.count()), (Some(0), 2), "{ran:?}");
    assert!(ran.stderr.contains("\navgpool "), "{}", ran.stderr);
    assert!(!bench.run("bench model.vgg --runs 2 --json").stdout.contains("steps"));
}

#[test]
fn bench_can_go_on_and_says_where_it_ran() {
    let bench = Bench::new();
    let ran = bench.run("bench model.vgg --threads 1 --runs 1 --sustain 1 --layers --json");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let sustained = &json["sustained"];
    assert!(sustained["seconds"].as_f64().unwrap() >= 1.0, "{json}");
    assert!(sustained["runs"].as_u64().unwrap() > 1 && sustained["part"].as_f64().unwrap() >= 0.5, "{json}");
    assert!(sustained["first"].as_f64().unwrap() > 0.0 && sustained["slowdown"].is_number(), "{json}");
    assert!(!json["cores"].as_array().unwrap().is_empty(), "{json}");
    assert!(json["board"].as_array().unwrap().iter().all(serde_json::Value::is_object), "{json}");
    assert_eq!(json["layers"].as_array().unwrap().len(), 4);
    let ran = bench.run("bench model.vgg --threads 1 --runs 1 --sustain 1");
    let line = ran.stdout.lines().nth(2).unwrap();
    assert!(line.starts_with("sustained 1.") && line.ends_with(" % slower"), "{ran:?}");
    assert!(!bench.run("bench model.vgg --runs 1 --json").stdout.contains("sustained"));
}
