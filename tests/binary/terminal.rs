//! What the program writes to a terminal, which has a width, and which a person reads. These tests need `script` and
//! `stty`, so they run when they are asked for: `cargo test --test binary terminal -- --ignored`.

use std::process::Command;

use crate::program::{Outcome, program, run};

/// Runs the program on a terminal of so many columns. What it writes there is on standard output.
fn on_terminal(columns: usize, arguments: &[&str]) -> Outcome {
    let program = program(arguments);
    let words = [program.get_program()].into_iter().chain(program.get_args());
    let quoted: Vec<_> = words.map(|word| format!("'{}'", word.to_str().expect("UTF-8"))).collect();
    let mut script = Command::new("script");
    script.args(["-qefc", &format!("stty cols {columns}; exec {}", quoted.join(" ")), "/dev/null"]);
    for (name, _) in program.get_envs().filter(|(_, value)| value.is_none()) {
        script.env_remove(name);
    }
    script.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    run(&mut script)
}

#[test]
#[ignore = "needs script, of util-linux"]
fn help_is_folded_for_a_narrow_terminal() {
    let help = |columns: usize| {
        let outcome = on_terminal(columns, &["--help"]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    let usual = help(80);
    assert!(help(40).lines().count() > usual.lines().count());
    // A terminal without a width, or too narrow for help, gets as much as most have.
    for columns in [0, 39] {
        assert_eq!(help(columns), usual, "{columns}");
    }
}

#[test]
#[ignore = "needs script, of util-linux"]
fn a_terminal_gets_lines_for_people() {
    let outcome = on_terminal(80, &["--passwd=/nowhere"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("baton-passwd: cannot connect: /nowhere: "), "{outcome:?}");
    let outcome = on_terminal(80, &["--passwd=/nowhere", "--log-format=json"]);
    assert!(outcome.stdout.contains("\"what\":\"connect\""), "{outcome:?}");
}
