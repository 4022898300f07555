//! `docs/signing.md`, run: its command line, and its snippet in each language that is installed.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use testkit::edge::program;
use transform_url::signing::Message;

const SECRET: &str = "an example secret, 32 bytes or more";
const KEY: &str = "2026-01";

/// What each snippet signs: tenant, path and expiry.
const CASES: [(&str, &str, &str); 4] = [
    ("demo", "/w=400,f=auto/@local/beach.jpg", "1893456000"),
    ("demo", "/w=400,f=auto/@local/beach.jpg", ""),
    ("shop-2", "/-/@local/b%C3%BCro/my%20beach's.jpg", "1"),
    ("demo", "/rect=0.5;0;0.5;1,bg=%23fff/@local/a+b~(c)!.jpg", ""),
];

/// A language of the guide, and how its snippet is run.
struct Language {
    /// The mark of its block.
    mark: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    file: &'static str,
    /// What goes before the snippet.
    prologue: &'static str,
    /// What goes after it; a star stands for the calls.
    epilogue: &'static str,
    /// Prints one result; a star stands for the arguments, which are texts in double quotes.
    call: &'static str,
}

const LANGUAGES: [Language; 5] = [
    Language {
        mark: "js",
        program: "node",
        arguments: &[],
        file: "sign.mjs",
        prologue: "",
        epilogue: "*",
        call: "console.log(signPath(*));",
    },
    Language {
        mark: "python",
        program: "python3",
        arguments: &[],
        file: "sign.py",
        prologue: "",
        epilogue: "*",
        call: "print(sign_path(*))",
    },
    Language {
        mark: "php",
        program: "php",
        arguments: &[],
        file: "sign.php",
        prologue: "<?php\n",
        epilogue: "*",
        call: "echo sign_path(*), \"\\n\";",
    },
    Language {
        mark: "ruby",
        program: "ruby",
        arguments: &[],
        file: "sign.rb",
        prologue: "",
        epilogue: "*",
        call: "puts sign_path(*)",
    },
    Language {
        mark: "go",
        program: "go",
        arguments: &["run"],
        file: "sign.go",
        prologue: "",
        epilogue: "func main() {\n*\n}",
        call: "\tfmt.Println(signPath(*))",
    },
];

fn guide() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/signing.md");
    std::fs::read_to_string(path).expect("the guide is there")
}

/// The one block of this language.
fn block<'a>(guide: &'a str, mark: &str) -> &'a str {
    let start = format!("\n```{mark}\n");
    assert_eq!(guide.matches(&start).count(), 1, "blocks of {mark}");
    let (_, rest) = guide.split_once(&start).expect("counted");
    rest.split_once("```").expect("it ends").0
}

/// The output of a program, or nothing when it is not installed.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    // Go refuses to run without a home or these; what it compiled is kept for the next run.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    command.env("GOCACHE", kept.join("go-cache")).env("GOPATH", kept.join("go")).env("GO111MODULE", "off");
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        output => Some(output.expect("it can be started")),
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("URLs are ASCII")
}

#[test]
fn every_snippet_signs_as_we_do() {
    let guide = guide();
    let expected: String = CASES
        .iter()
        .map(|(tenant, path, exp)| {
            let message = Message { tenant_id: tenant, path, expires: exp.parse().ok(), key: KEY };
            format!("/{tenant}{path}?{}\n", message.query(SECRET.as_bytes()))
        })
        .collect();
    let mut skipped = Vec::new();
    for language in &LANGUAGES {
        let calls: Vec<String> = CASES
            .iter()
            .map(|(tenant, path, exp)| {
                let arguments = [SECRET, KEY, tenant, path, exp].map(|text| format!("{text:?}")).join(", ");
                language.call.replace('*', &arguments)
            })
            .collect();
        let epilogue = language.epilogue.replace('*', &calls.join("\n"));
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!("{}{}\n{epilogue}\n", language.prologue, block(&guide, language.mark));
        std::fs::write(folder.path().join(language.file), text).expect("the folder is ours");
        let arguments = [language.arguments, &[language.file]].concat();
        match run(language.program, &arguments, folder.path()) {
            Some(output) => assert_eq!(stdout(&output), expected, "{}", language.mark),
            None => skipped.push(language.program),
        }
    }
    if !skipped.is_empty() {
        eprintln!("snippets of docs/signing.md that were not run, because it is not installed: {}", skipped.join(", "));
    }
}

#[test]
fn the_command_line_prints_what_the_guide_says() {
    let guide = guide();
    let folder = tempfile::tempdir().expect("a folder");
    let programs = program("calotype").parent().expect("it lies in a folder").display().to_string();
    let script = format!("set -e\nPATH={programs}:$PATH\n{}", block(&guide, "sh"));
    let output = run("sh", &["-c", &script], folder.path()).expect("every system has it");
    assert_eq!(stdout(&output), block(&guide, "text"));
}
