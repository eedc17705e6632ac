//! What idle Pods import beforehand.

use anyhow::{Result, ensure};
use codeexec_e2e::{Cluster, Pool, PoolOf};
use serde_json::Value;

use super::connect;

/// The answer of a program that ran on a warm Pod, or on a cold one.
async fn run(cluster: &Cluster, pool: &Pool, code: &str, warm: bool) -> Result<Value> {
    let answer = cluster.run(&pool.program(code)).await?;
    ensure!(
        answer["status"] == "success" && answer["warm"] == warm,
        "{answer}"
    );
    Ok(answer)
}

#[tokio::test]
async fn a_pool_that_says_nothing_has_numpy_pandas_and_matplotlib_imported() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let code = "import shutil; m = shutil.sys.modules; \
                print('numpy' in m, 'pandas' in m, 'matplotlib.pyplot' in m)";
    PoolOf::pods(1)
        .with(|spec| spec.preload = None)
        .run_full(&cluster, async |pool| {
            let answer = run(&cluster, pool, code, true).await?;
            ensure!(answer["output"] == "True True True\n", "{answer}");
            Ok(())
        })
        .await?;
    PoolOf::pods(1)
        .run_full(&cluster, async |pool| {
            let answer = run(&cluster, pool, code, true).await?;
            ensure!(answer["output"] == "False False False\n", "{answer}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn two_pods_draw_different_random_numbers() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let code = "import random, numpy, uuid\nprint(random.random())\nprint(numpy.random.rand())\n\
                print(uuid.uuid4())\nprint(hash('text'))";
    let modules = ["random", "numpy.random", "uuid"].map(str::to_owned);
    PoolOf::pods(2)
        .with(|spec| spec.preload = Some(modules.to_vec()))
        .run_full(&cluster, async |pool| {
            let (one, other) = tokio::join!(run(&cluster, pool, code, true), run(&cluster, pool, code, true));
            let (one, other) = (one?, other?);
            let lines = |answer: &Value| -> Vec<String> {
                let output = answer["output"].as_str().unwrap_or_default();
                output.lines().map(str::to_owned).collect()
            };
            let (one, other) = (lines(&one), lines(&other));
            ensure!(one.len() == 4 && other.len() == 4, "{one:?} {other:?}");
            ensure!(
                one.iter().zip(&other).all(|(one, other)| one != other),
                "{one:?} {other:?}"
            );
            Ok(())
        })
        .await
}

#[tokio::test]
async fn plots_and_warnings_are_those_of_a_cold_pod() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let code = "\
import warnings
warnings.warn('of its own')
warnings.warn('outdated', DeprecationWarning)
import numpy as np
print(np.array([1.0]) / 0)
import pandas as pd
print(pd.DataFrame({'a': [1, 2]}))
import matplotlib
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
plt.savefig('plot.png')
print(open('plot.png', 'rb').read(4))
print(matplotlib.get_backend().lower(), plt.get_fignums())
";
    PoolOf::pods(1)
        .with(|spec| spec.preload = None)
        .run_full(&cluster, async |pool| {
            let warm = run(&cluster, pool, code, true).await?;
            pool.scale(0).await?;
            pool.is_full().await?;
            let cold = run(&cluster, pool, code, false).await?;
            for field in ["output", "stderr"] {
                ensure!(
                    warm[field] == cold[field],
                    "{field}: {} {}",
                    warm[field],
                    cold[field]
                );
            }
            let stderr = warm["stderr"].as_str().unwrap_or_default();
            for warning in [
                "UserWarning: of its own",
                "DeprecationWarning: outdated",
                "RuntimeWarning: divide by zero",
            ] {
                ensure!(
                    stderr.matches(warning).count() == 1,
                    "{warning:?} once in {stderr}"
                );
            }
            ensure!(
                warm["output"]
                    .as_str()
                    .is_some_and(|output| output.ends_with("b'\\x89PNG'\nagg [1]\n")),
                "{warm}"
            );
            Ok(())
        })
        .await
}
