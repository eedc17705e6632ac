//! The same programs, looked at by Python itself: what its own parser takes is read here without an error, and the
//! same is found in it. The programs are the interpreter's library. Needs `python3`.

use std::collections::BTreeMap;
use std::process::Command;

use codeexec_policy::check;

/// Prints a line for each file: its text, and the first line of each construct in Python's own tree.
const ORACLE: &str = r#"
import ast, json, os, sysconfig, tokenize

MODULES = ("os", "subprocess", "sys")
CALLS = ("eval", "exec", "compile")

def constructs(tree):
    for node in ast.walk(tree):
        line = getattr(node, "lineno", None)
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in MODULES:
                    yield "import " + alias.name.split(".")[0], line
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.split(".")[0] in MODULES:
            yield "import " + node.module.split(".")[0], line
        called = [node.func] if isinstance(node, ast.Call) else getattr(node, "decorator_list", [])
        for function in called:
            if isinstance(function, ast.Name) and function.id in CALLS:
                yield function.id + "(", function.lineno
        if not isinstance(node, ast.Constant):
            for _, value in ast.iter_fields(node):
                for name in value if isinstance(value, list) else [value]:
                    if isinstance(name, str) and "__import__" in name.split("."):
                        yield "__import__", 0

library = sysconfig.get_paths()["stdlib"]
paths = [library + "/" + name for name in os.listdir(library)]
for package in ("asyncio", "collections", "concurrent/futures", "ctypes", "email", "encodings", "importlib", "json", "multiprocessing"):
    folder = library + "/" + package
    if os.path.isdir(folder):
        paths += [folder + "/" + name for name in os.listdir(folder)]
for path in sorted(path for path in paths if path.endswith(".py")):
    with tokenize.open(path) as file:
        code = file.read()
    first = {}
    for construct, line in constructs(ast.parse(code)):
        first[construct] = min(line, first.get(construct, line))
    print(json.dumps({"path": path, "code": code, "found": first}))
"#;

#[test]
fn the_library_of_python_is_read_as_python_reads_it() {
    let output = Command::new("python3")
        .args(["-W", "ignore", "-c", ORACLE])
        .output()
        .expect("python3");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).expect("JSON");
    let mut read = 0;
    for line in lines.lines() {
        let file: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let code = file["code"].as_str().expect("a text");
        let found: BTreeMap<String, u64> = check(code)
            .into_iter()
            .map(|finding| {
                let name = finding.construct.to_string();
                // Python does not say where a mere name stands.
                let line = if name == "__import__" {
                    0
                } else {
                    finding.line as u64
                };
                (name, line)
            })
            .collect();
        let expected: BTreeMap<String, u64> = serde_json::from_value(file["found"].clone()).expect("lines");
        assert_eq!(found, expected, "{}", file["path"]);
        read += 1;
    }
    assert!(read > 100, "only {read} files");
}
