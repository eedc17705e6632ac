//! Files and figures that programs leave as results.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use codeexec_e2e::{Cluster, Program, cluster};
use serde_json::{Value, json};

/// What an object may have at most, as the Kubernetes API server encodes it.
const OBJECT_CAP: usize = 1_500_000;

/// Path and type of each file in an answer or a status.
fn left(of: &Value) -> Vec<String> {
    let text = |file: &Value, name: &str| file[name].as_str().unwrap_or_default().to_owned();
    let files = of["files"].as_array().into_iter().flatten();
    files
        .map(|file| format!("{} {}", text(file, "path"), text(file, "mimeType")))
        .collect()
}

fn content(of: &Value, at: usize) -> Result<Vec<u8>> {
    let content = of["files"][at]["content"].as_str().context("no such file")?;
    Ok(STANDARD.decode(content)?)
}

#[tokio::test]
async fn a_plot_that_is_shown_comes_back_as_a_picture() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()\nprint('shown')\nplt.bar([1, 2], [3, 4])";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(answer["status"], "success", "{answer}");
    assert_eq!(
        (&answer["output"], &answer["stderr"]),
        (&json!("shown\n"), &json!(""))
    );
    assert_eq!(
        left(&answer),
        ["figure-1.png image/png", "figure-2.png image/png"]
    );
    for at in 0..2 {
        assert!(content(&answer, at)?.starts_with(b"\x89PNG\r\n\x1a\n"));
    }
    assert_eq!(answer["truncated"]["files"], false);
    Ok(())
}

#[tokio::test]
async fn a_table_stands_in_the_answer_and_in_the_record() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "import pandas\npandas.DataFrame({'a': [1, 2]}).to_csv('/code/out/table.csv', index=False)\n\
                raise ValueError('after it')";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(answer["reason"], "NonZeroExit", "{answer}");
    assert_eq!(left(&answer), ["table.csv text/csv"]);
    assert_eq!(content(&answer, 0)?, b"a\n1\n2\n");
    let stored = cluster.encoded_execution(cluster::record_of(&answer)?).await?;
    let record: Value = serde_json::from_str(&stored)?;
    assert_eq!(record["status"]["files"], answer["files"]);
    assert_eq!(record["status"]["truncated"], answer["truncated"]);
    Ok(())
}

#[tokio::test]
async fn files_of_a_program_that_took_too_long_come_as_well() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "with open('out/so-far.json', 'w') as file: file.write('{}')\nwhile True: pass";
    let answer = cluster.run(&Program::new(code).timeout(2)).await?;
    assert_eq!(answer["status"], "timeout", "{answer}");
    assert_eq!(left(&answer), ["so-far.json application/json"]);
    Ok(())
}

#[tokio::test]
async fn output_and_files_fit_into_one_record_and_what_does_not_is_flagged() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "print('x' * 1_000_000)\nopen('out/large.txt', 'w').write('y' * 500_000)\n\
                import time\ntime.sleep(0.1)\nopen('out/small.txt', 'w').write('z' * 200_000)";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(answer["output"].as_str().map(str::len), Some(1_000_001));
    assert_eq!(left(&answer), ["small.txt text/plain"]);
    assert_eq!(content(&answer, 0)?.len(), 200_000);
    assert_eq!(
        answer["truncated"],
        json!({"stdout": false, "stderr": false, "files": true})
    );
    let stored = cluster.encoded_execution(cluster::record_of(&answer)?).await?;
    assert!(stored.len() < OBJECT_CAP, "{} bytes", stored.len());
    // All of the room for files.
    let code = "open('out/a.txt', 'w').write('y' * 1_000_000)\nopen('out/b.txt', 'w').write('y' * 1_000_000)";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(
        (left(&answer).len(), &answer["truncated"]["files"]),
        (1, &json!(true))
    );
    let stored = cluster.encoded_execution(cluster::record_of(&answer)?).await?;
    assert!(stored.len() < OBJECT_CAP, "{} bytes", stored.len());
    Ok(())
}

#[tokio::test]
async fn a_link_out_of_the_folder_shows_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "import shutil\nshutil.os.symlink('/etc/passwd', 'out/passwd')\nshutil.os.symlink('/proc/1/environ', 'out/environ')";
    let answer = cluster.run(&Program::new(code)).await?;
    assert_eq!(answer["status"], "success", "{answer}");
    assert_eq!(
        (&answer["files"], &answer["truncated"]["files"]),
        (&json!([]), &json!(true))
    );
    Ok(())
}
