//! What is found in which programs, and where.

use codeexec_policy::{Construct, check};

use Construct::{Compile, DunderImport, Eval, Exec, ImportOs, ImportSubprocess, ImportSys};

/// What is found, as `construct line:column`.
fn found(code: &str) -> String {
    let findings = check(code).into_iter();
    let told: Vec<String> = findings
        .map(|finding| format!("{} {}:{}", finding.construct, finding.line, finding.column))
        .collect();
    told.join(", ")
}

/// The one construct that stands in a program.
fn only(code: &str) -> Construct {
    let findings = check(code);
    assert_eq!(findings.len(), 1, "{code:?}: {findings:?}");
    findings[0].construct
}

#[test]
fn each_import_of_the_modules_is_found() {
    for (module, construct) in [
        ("os", ImportOs),
        ("subprocess", ImportSubprocess),
        ("sys", ImportSys),
    ] {
        for spelling in [
            "import MODULE",
            "import MODULE.path",
            "import MODULE as json",
            "import MODULE.path as p",
            "import json, MODULE",
            "import json as j, MODULE as m, math",
            "import  \\\n MODULE",
            "import MODULE . path",
            "from MODULE import path",
            "from MODULE import (\n path as p,\n sep,\n)",
            "from MODULE import *",
            "from MODULE.path import join",
            "from\\\n MODULE import path",
            "x = 1; import MODULE; y = 2",
            "if x: import MODULE",
            "try:\n    import MODULE\nexcept ImportError:\n    pass",
            "try:\n    pass\nfinally:\n    import MODULE",
            "try:\n    pass\nexcept* ValueError:\n    import MODULE",
            "def f():\n    def g():\n        import MODULE\n",
            "class A:\n    class B:\n        from MODULE import path\n",
            "async def f():\n    async with a:\n        import MODULE\n",
            "match x:\n    case 1:\n        import MODULE\n",
            "while x:\n    pass\nelse:\n    import MODULE\n",
            "if a:\n    pass\nelif b:\n    pass\nelse:\n    import MODULE\n",
            "for a in b:\n\timport MODULE\n",
            "with a as b: import MODULE",
            "import MODULE # json",
            "\u{feff}import MODULE",
            "\u{c}import MODULE",
            "a = 1\rimport MODULE\r",
            "# -*- coding: utf-7 -*-\nimport MODULE",
        ] {
            let code = spelling.replace("MODULE", module);
            assert_eq!(only(&code), construct, "{code:?}");
        }
    }
}

#[test]
fn each_call_of_the_bare_names_is_found() {
    for (name, construct) in [("eval", Eval), ("exec", Exec), ("compile", Compile)] {
        for spelling in [
            "NAME('1')",
            "NAME ('1')",
            "NAME(\n'1'\n)",
            "NAME\\\n('1')",
            "(NAME)('1')",
            "((NAME))('1')",
            "(\n# why\nNAME\n)('1')",
            "x = NAME('1')",
            "x = [NAME(y) for y in z]",
            "x = [y for y in NAME(z)]",
            "x = [y for y in z if NAME(y)]",
            "x = {NAME('a'): 1}",
            "x = {1: NAME('a')}",
            "x = (y for y in z if y in NAME(y))",
            "f = lambda: NAME('1')",
            "f = lambda x=NAME('1'): x",
            "def f(x=NAME('1')): pass",
            "def f(*, x=NAME('1')): pass",
            "def f(x: NAME('1')): pass",
            "def f() -> NAME('1'): pass",
            "x: NAME('1') = 2",
            "def f[T: NAME('int')](): pass",
            "def f[T = NAME('int')](): pass",
            "def f[*T = NAME('int')](): pass",
            "class A[T: (int, NAME('int'))]: pass",
            "type X = NAME('int')",
            "type X[T = NAME('int')] = T",
            "class A(NAME('object')): pass",
            "class A(metaclass=NAME('type')): pass",
            "@NAME('f')\ndef g(): pass",
            "@NAME\n@str\ndef g(): pass",
            "@(NAME)\nclass A: pass",
            "@a.b(NAME('f'))\nclass A: pass",
            "if (n := NAME('1')): pass",
            "while NAME('1'): pass",
            "print(f'{NAME(\"1\")}')",
            "print(f'{x:{NAME(\"1\")}}')",
            "print(f'''{\nNAME(1)!r:>{2}}''')",
            "print(f'{f\"{NAME(1)}\"}')",
            "print(rf'\\{NAME(1)}')",
            "print('a' f'{NAME(1)}' 'b')",
            "print(f'{NAME(1)=}')",
            "print(t'{NAME(1)}')",
            "match NAME('1'):\n    case _: pass",
            "match x:\n    case y if NAME('1'): pass",
            "x[NAME('1')]",
            "x[1:NAME('1'):2]",
            "x[NAME('1')] = 2",
            "x.y = NAME('1')",
            "x = y = NAME('1')",
            "x += NAME('1')",
            "del x[NAME('1')]",
            "return_ = not NAME('1')",
            "assert x, NAME('1')",
            "raise ValueError from NAME('1')",
            "x = yes if NAME('1') else no",
            "x = 1 < NAME('1') < 2",
            "x = a or b and NAME('1')",
            "f(*NAME('1'))",
            "f(**NAME('1'))",
            "f(x=NAME('1'))",
            "[*NAME('1')]",
            "{**NAME('1')}",
            "for x in NAME('1'): pass",
            "with NAME('1') as x: pass",
            "with (a as b, NAME('1') as x): pass",
            "async def f():\n    await NAME('1')",
            "def f():\n    yield NAME('1')",
            "def f():\n    yield from NAME('1')",
            "def f():\n    return NAME('1')",
            "global x; NAME('1')",
            "NAME('1').x.y()[0]",
            "a.NAME.b(NAME('1'))",
        ] {
            let code = spelling.replace("NAME", name);
            assert_eq!(only(&code), construct, "{code:?}");
        }
    }
}

#[test]
fn the_name_of_the_import_function_is_found_wherever_it_stands() {
    for code in [
        "__import__('os')",
        "f = __import__",
        "(__import__)('os')",
        "builtins.__import__('os')",
        "__builtins__.__import__",
        "f(__import__)",
        "f(__import__=1)",
        "def __import__(): pass",
        "class __import__: pass",
        "lambda __import__: 1",
        "def f(*__import__): pass",
        "def f(**__import__): pass",
        "from builtins import __import__",
        "from builtins import x as __import__",
        "import __import__",
        "import a.__import__.b",
        "from a.__import__ import b",
        "global __import__",
        "def f():\n    nonlocal __import__",
        "try: pass\nexcept E as __import__: pass",
        "match x:\n    case __import__: pass",
        "match x:\n    case [*__import__]: pass",
        "match x:\n    case {1: 2, **__import__}: pass",
        "match x:\n    case A(__import__=1): pass",
        "match x:\n    case 1 | 2 as __import__: pass",
        "match x:\n    case a.__import__: pass",
        "type __import__ = int",
        "def f[__import__](): pass",
        "def f[*__import__](): pass",
        "def f[**__import__](): pass",
        "__import__ = 1",
        "__import__: int",
        "del __import__",
        "for __import__ in x: pass",
        "print(f'{__import__}')",
        "@__import__\ndef f(): pass",
    ] {
        assert_eq!(only(code), DunderImport, "{code:?}");
    }
}

#[test]
fn names_are_read_as_python_reads_them() {
    assert_eq!(only("import ｏｓ"), ImportOs);
    assert_eq!(only("import ｏｓ.path"), ImportOs);
    assert_eq!(only("from 𝐬𝐲𝐬 import argv"), ImportSys);
    assert_eq!(only("import 𝓈𝓊𝒷𝓅𝓇ℴ𝒸ℯ𝓈𝓈"), ImportSubprocess);
    assert_eq!(only("import ſys"), ImportSys);
    assert_eq!(only("ｅｖａｌ('1')"), Eval);
    assert_eq!(only("(𝐞xec)('1')"), Exec);
    assert_eq!(only("ℂompile('1')".replace('ℂ', "𝕔").as_str()), Compile);
    assert_eq!(only("_＿ｉmport__('os')"), DunderImport);
    assert_eq!(only("x._＿ｉmport__"), DunderImport);
    // Other letters that only look the same, and other cases, are other names to Python.
    for code in [
        "import оs",
        "import OS",
        "Import_os = 1",
        "Eval('1')",
        "еval('1')",
    ] {
        assert_eq!(found(code), "", "{code:?}");
    }
}

#[test]
fn what_only_looks_alike_passes() {
    for code in [
        "",
        "print('Hello, World!')",
        "import re\nre.compile('a')",
        "obj.eval('1')",
        "obj.exec('1')",
        "obj . compile ('1')",
        "self.model.eval()",
        "evaluate('1')",
        "retrieval('1')",
        "my_eval('1')",
        "eval_('1')",
        "import os_helper",
        "import osx, system, subprocesses",
        "import posixpath, syslog",
        "from os_helper import path",
        "from a import os, sys, subprocess",
        "from a.os import path",
        "from . import os",
        "from .os import path",
        "from ...sys import path",
        "import a.os",
        "import json as os",
        "os.path.join('a', 'b')",
        "os = 1",
        "def os(): ...",
        "def eval(x): ...",
        "class compile: ...",
        "class exec(Base): ...",
        "def f(eval): ...",
        "f = eval",
        "f(eval)",
        "map(eval, x)",
        "eval.x('1')",
        "x = {'eval': 1}",
        "f(eval=1)",
        "lambda eval: 1",
        "@obj.eval\ndef f(): ...",
        "print('import os')",
        "print(\"eval('1')\")",
        "# import os; eval('1'); __import__",
        "'''\nimport os\n__import__('os')\n'''",
        "b'import sys'",
        "print(f'import os {x} eval(1)')",
        "print(f'{{eval(1)}}')",
        "x: 'eval(1)' = 2",
        "print(r'\\\nimport os')",
        "x = '__import__'",
        "getattr(x, '__import__')",
        "import importlib\nimportlib.import_module('os')",
        "__imports__ = ___import__ = 1",
        "import builtins",
    ] {
        assert_eq!(found(code), "", "{code:?}");
    }
}

#[test]
fn the_first_place_of_each_construct_is_told_in_the_program_s_order() {
    assert_eq!(
        found("import json\nif x:\n    eval('1'); import os\neval('2')\nimport os, sys\n"),
        "eval( 3:5, import os 3:16, import sys 5:1"
    );
    assert_eq!(found("import sys, os"), "import os 1:1, import sys 1:1");
    assert_eq!(
        found("eval(exec(compile(__import__)))"),
        "eval( 1:1, exec( 1:6, compile( 1:11, __import__ 1:19"
    );
}

#[test]
fn columns_are_code_points_and_lines_end_as_python_ends_them() {
    assert_eq!(found("x = 'é𝐚ﷺ'; eval('1')"), "eval( 1:12");
    assert_eq!(found("\tif x: eval('1')").split(' ').next_back(), Some("1:8"));
    assert_eq!(found("a\r\nb\rc\nimport os"), "import os 4:1");
    assert_eq!(
        found("'''\u{2028}\u{85}\u{c}\u{b}'''; import os"),
        "import os 1:13"
    );
    assert_eq!(found("\u{feff}import os"), "import os 1:1");
    assert_eq!(found("x = (\n  (eval)\n  ('1'))"), "eval( 2:4");
}

#[test]
fn a_finding_is_a_sentence_for_whoever_wrote_the_program() {
    let told = |code: &str| check(code)[0].to_string();
    assert_eq!(
        told("x = 1\n  \nimport os.path"),
        "the policy does not allow `import os` (line 3, column 1)"
    );
    assert_eq!(
        told("x = eval('1')"),
        "the policy does not allow `eval(` (line 1, column 5)"
    );
    assert_eq!(
        told(&format!("{}eval", "(".repeat(201))),
        "the policy does not allow more than 200 levels of nesting"
    );
}

#[test]
fn what_does_not_parse_passes_unless_a_construct_stands_in_it() {
    for code in [
        "print(",
        "def f(:",
        "x = = 1",
        "print 'Hello'",
        "  indented",
        "if x:\nprint(1)",
        "'unterminated",
        "print('import os)",
        "'''\nimport os\n",
        "# import os\nx = = 1",
        "x = 'eval(1)' = =",
        "exec 'import os'",
        "obj.eval('1') = = 1",
        "def eval(x: = = 1",
        "import os_helper, = 1",
        "from os_helper import = 1",
        "import",
        "import 1, os",
        "yield from os",
        "raise x from os",
        "\0",
        "import json\0",
        "$$$",
    ] {
        assert_eq!(found(code), "", "{code:?}");
    }
    for (code, expected) in [
        ("import os\nprint(", "import os 1:1"),
        ("import os import", "import os 1:1"),
        ("from os", "import os 1:1"),
        ("x = ]; from . import a, os", "import os 1:15"),
        ("print(\nimport os", "import os 2:1"),
        ("def f(:\n    import json, sys as s\n", "import sys 2:5"),
        ("x = = eval('1')", "eval( 1:7"),
        ("x = = (eval) ('1')", "eval( 1:8"),
        ("x = ]; from os.path import join", "import os 1:8"),
        ("] import json . x as y, ｏｓ", "import os 1:3"),
        ("] @eval\ndef f(): pass", "eval( 1:4"),
        ("\0import os", "import os 1:2"),
        ("$ __import__ $", "__import__ 1:3"),
        ("f'{eval(1)' ]", "eval( 1:4"),
        ("class A:\n  def f(self):\n x = 1\n  eval('1')", "eval( 4:3"),
    ] {
        assert_eq!(found(code), expected, "{code:?}");
    }
}
