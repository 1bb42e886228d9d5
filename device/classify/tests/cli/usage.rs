//! Wrong use: exit code 2 and what would be right.

use snapbox::str;
use vgg_edge_engine::kernels;

use super::Bench;

#[test]
fn usage_errors_exit_with_2() {
    let bench = Bench::new();
    bench.run("run model.vgg").is(
        2,
        str![""],
        str![[r#"
error: the following required arguments were not provided:
  <IMAGE>...

Usage: classify run <MODEL> <IMAGE>...

For more information, try '--help'.

"#]],
    );
    bench.run("run model.vgg red.png --topp 3").is(
        2,
        str![""],
        str![[r#"
error: unexpected argument '--topp' found

  tip: a similar argument exists: '--top'

Usage: classify run --top <K> <MODEL> <IMAGE>...

For more information, try '--help'.

"#]],
    );
    bench.run("run model.vgg red.png --top 0").is(
        2,
        str![""],
        str![[r#"
error: invalid value '0' for '--top <K>': number would be zero for non-zero type

For more information, try '--help'.

"#]],
    );
    bench.run("classify").is(
        2,
        str![""],
        str![[r#"
error: unrecognized subcommand 'classify'

Usage: classify [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]],
    );
    assert_eq!(bench.run("").code, Some(2));
    assert_eq!(bench.run("--version").code, Some(0));
    assert_eq!(bench.run("run --help").code, Some(0));
}

#[test]
fn unknown_kernels_list_the_choices() {
    let bench = Bench::new();
    let choices: Vec<&str> = kernels::available().map(|k| kernels::variant(k.name())).collect();
    bench
        .run("run model.vgg red.png --kernel fast")
        .fails(format!("error: unknown kernel `fast`, available here: {}\n", choices.join(" ")));
}
