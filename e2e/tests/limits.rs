//! The limits at their edges: what is just within works, what is just beyond is refused, cut or ended.

use anyhow::Result;
use codeexec_e2e::{Cluster, Program, cluster};
use serde_json::{Value, json};

/// The plan's bound on output, both streams together.
const OUTPUT_CAP: usize = 1024 * 1024;

/// What an object may have at most, as the Kubernetes API server encodes it.
const OBJECT_CAP: usize = 1_500_000;

/// A program of exactly `chars` characters, most of them `filler` in a comment.
fn program_of(chars: usize, filler: char) -> String {
    let head = "print('ran') #";
    head.chars()
        .chain(std::iter::repeat(filler))
        .take(chars)
        .collect()
}

#[tokio::test]
async fn code_up_to_ten_thousand_characters_runs_and_one_more_is_refused() -> Result<()> {
    let cluster = Cluster::connect().await?;
    for filler in ['x', 'é', '😀'] {
        for chars in [9_999, 10_000] {
            let answer = cluster.run(&Program::new(program_of(chars, filler))).await?;
            assert_eq!(
                answer["output"], "ran\n",
                "{chars} characters with {filler}: {answer}"
            );
        }
        let answer = cluster
            .post(&Program::new(program_of(10_001, filler)).body())
            .await?;
        assert_eq!(answer.status, 400, "10,001 characters with {filler}");
        assert!(
            answer.body["error"].as_str().unwrap_or_default().contains("code"),
            "{}",
            answer.body
        );
    }
    Ok(())
}

#[tokio::test]
async fn stdin_of_64_kib_is_read_whole() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let program = Program::new("text = open(0).read()\nprint(len(text), text[:3], text[-3:])")
        .stdin(format!("abc{}xyz", "é".repeat(32_765)));
    let answer = cluster.run(&program).await?;
    assert_eq!(answer["output"], "32771 abc xyz\n", "{answer}");
    Ok(())
}

#[tokio::test]
async fn without_stdin_reading_meets_the_end_of_file() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let answer = cluster.run(&Program::new("input()")).await?;
    assert_eq!(answer["status"], "error");
    assert!(
        answer["error"]
            .as_str()
            .unwrap_or_default()
            .ends_with("EOFError: EOF when reading a line"),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn arguments_up_to_their_bounds_arrive_in_order() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let args: Vec<_> = (0..64).map(|at| format!("{at:0512}")).collect();
    let code = "import shutil\nargs = shutil.sys.argv[1:]\n\
                print(len(args), sum(map(len, args)), [int(a) for a in args] == list(range(64)))";
    let answer = cluster.run(&Program::new(code).args(args)).await?;
    assert_eq!(answer["output"], "64 32768 True\n", "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_environment_up_to_its_bounds_arrives() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "import shutil\nown = {k: v for k, v in shutil.os.environ.items() if k.startswith('OWN_')}\n\
                print(len(own), sum(len(k) + len(v) for k, v in own.items()), own['OWN_07'][:9])";
    let program = (0..64).fold(Program::new(code), |program, at| {
        program.env(format!("OWN_{at:02}"), format!("value={at:0500}"))
    });
    let answer = cluster.run(&program).await?;
    assert_eq!(answer["output"], "64 32768 value=000\n", "{answer}");
    Ok(())
}

#[tokio::test]
async fn files_up_to_their_bounds_stand_in_the_work_directory() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "from pathlib import Path\nfiles = sorted(p for p in Path('data').rglob('*') if p.is_file())\n\
                print(len(files), sum(p.stat().st_size for p in files), files[0], files[0].read_bytes()[:2])";
    let program = (0..32).fold(Program::new(code), |program, at| {
        // 6144 bytes are 8192 of base64: 32 of them are the bound.
        program.file(format!("data/{at:02}/in.bin"), &[0xff; 6144])
    });
    let answer = cluster.run(&program).await?;
    assert_eq!(
        answer["output"], "32 196608 data/00/in.bin b'\\xff\\xff'\n",
        "{answer}"
    );
    Ok(())
}

/// Checks that one MB of `character` leaves a record that can be read and is flagged as cut.
async fn is_cut_and_flagged(character: &str) -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = format!("print({character:?} * {OUTPUT_CAP}, end='')");
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(answer["status"], "success", "{character:?}: {}", answer["error"]);
    assert_eq!(answer["outputBytes"], json!({"stdout": OUTPUT_CAP, "stderr": 0}));
    assert_eq!(
        answer["truncated"],
        json!({"stdout": true, "stderr": false, "files": false})
    );
    let output = answer["output"].as_str().unwrap_or_default();
    // Each is six bytes where it is stored, so a good seventh of the room is what can be kept.
    assert!(
        (140_000..OUTPUT_CAP).contains(&output.len()),
        "{} bytes kept",
        output.len()
    );
    assert_eq!(output, character.repeat(output.len()));

    let stored = cluster.encoded_execution(cluster::record_of(&answer)?).await?;
    assert!(stored.len() < OBJECT_CAP, "{} bytes", stored.len());
    let record: Value = serde_json::from_str(&stored)?;
    assert_eq!(record["status"]["output"], answer["output"]);
    assert_eq!(record["status"]["truncated"], answer["truncated"]);
    Ok(())
}

#[tokio::test]
async fn a_megabyte_of_less_than_signs_is_cut_and_its_record_stays_readable() -> Result<()> {
    is_cut_and_flagged("<").await
}

#[tokio::test]
async fn a_megabyte_of_nuls_is_cut_and_its_record_stays_readable() -> Result<()> {
    is_cut_and_flagged("\0").await
}

#[tokio::test]
async fn a_megabyte_of_plain_text_comes_whole_and_of_one_byte_more_all_but_that() -> Result<()> {
    let cluster = Cluster::connect().await?;
    for (bytes, truncated) in [
        (OUTPUT_CAP - 1, false),
        (OUTPUT_CAP, false),
        (OUTPUT_CAP + 1, true),
    ] {
        let answer = cluster
            .run(&Program::new(format!("print('x' * {bytes}, end='')")))
            .await?;
        assert_eq!(answer["status"], "success", "{}", answer["error"]);
        let output = answer["output"].as_str().unwrap_or_default();
        assert_eq!(output.len(), bytes.min(OUTPUT_CAP), "of {bytes} bytes");
        assert!(output.bytes().all(|byte| byte == b'x'));
        assert_eq!(
            answer["truncated"],
            json!({"stdout": truncated, "stderr": false, "files": false}),
            "{bytes} bytes"
        );
        assert_eq!(answer["outputBytes"], json!({"stdout": bytes, "stderr": 0}));

        let stored = cluster.encoded_execution(cluster::record_of(&answer)?).await?;
        assert!(stored.len() < OBJECT_CAP, "{} bytes", stored.len());
    }
    Ok(())
}

#[tokio::test]
async fn what_follows_the_cap_is_counted_and_the_program_is_not_held_up() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code =
        "import shutil\nfor _ in range(20):\n    print('y' * 1_000_000)\nshutil.sys.stderr.write('the end')";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(answer["status"], "success", "{}", answer["error"]);
    assert_eq!(
        answer["outputBytes"],
        json!({"stdout": 20 * 1_000_001, "stderr": 7})
    );
    assert_eq!(answer["truncated"]["stdout"], true);
    Ok(())
}

#[tokio::test]
async fn a_program_within_its_memory_runs() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "block = bytearray(200_000_000)\nblock[::4096] = b'x' * len(block[::4096])\nprint(len(block))";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(answer["output"], "200000000\n", "{answer}");
    assert!(
        answer["usage"]["peakMemoryBytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 200_000_000),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn processes_that_exceed_the_memory_together_end_as_out_of_memory() -> Result<()> {
    let cluster = Cluster::connect().await?;
    // Eight times 100 MiB: none of them is too large by itself.
    let code = "\
import time
from multiprocessing import Process

def grow():
    block = bytearray(100 << 20)
    block[::4096] = b'x' * len(block[::4096])
    time.sleep(10)

children = [Process(target=grow) for _ in range(8)]
for child in children:
    child.start()
for child in children:
    child.join()
raise SystemExit(1 if any(child.exitcode for child in children) else 0)
";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(
        (&answer["status"], &answer["reason"]),
        (&json!("error"), &json!("OutOfMemory")),
        "{answer}"
    );
    assert_eq!(answer["error"], "the program exceeded its memory limit");
    Ok(())
}
