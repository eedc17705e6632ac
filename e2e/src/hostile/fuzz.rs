//! Generated programs, for as long as one likes.

// Its lines are what it is for.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use codeexec_suite::Program;
use codeexec_suite::generator::Generator;
use futures::{StreamExt, stream};

use super::RunnerAlone;
use super::harness::{Place, Tally, canary, checks};
use super::processes::left_over;

/// Programs at once.
const AT_ONCE: usize = 2;

/// Programs after which there is a quiet moment, to look at what is left and whether the next one works.
const ROUND: usize = 10;

/// Programs to a line of output.
const LINE: usize = 50;

/// Runs generated programs for a time, and looks for what must be true of any program. The code of one that
/// breaks it goes into `folder`.
///
/// # Errors
/// When there is nothing to generate programs of, or a file can't be written.
pub async fn fuzz(place: &RunnerAlone, seed: u64, time: Duration, folder: &Path) -> Result<Tally> {
    let began = Instant::now();
    let programs = codeexec_suite::programs()?;
    let mut generator = Generator::new(&programs, seed);
    let (mut tally, mut told) = (Tally::default(), 0);
    println!("fuzz: seed {seed}");
    while began.elapsed() < time {
        let round: Vec<Program> = generator.by_ref().take(ROUND).collect();
        ensure!(
            !round.is_empty(),
            "no program of the suite can be a part of another"
        );
        for (program, found) in one_round(place, &round).await {
            if found.is_empty() {
                tally.passed += 1;
                continue;
            }
            tally.failed += 1;
            let file = write(folder, program)?;
            println!(
                "FAIL  fuzz {} ({}): {}; see {file}",
                program.name,
                program.why,
                found.join("; ")
            );
        }
        if tally.passed >= told + LINE {
            told += LINE;
            println!("ok    fuzz seed {seed}: {told} programs");
        }
    }
    if told == 0 && tally.passed > 0 {
        println!("ok    fuzz seed {seed}: {} programs", tally.passed);
    }
    println!("fuzz: seed {seed}, {tally}, in {} s", began.elapsed().as_secs());
    Ok(tally)
}

/// Runs some programs and returns them with what is wrong. What can't be blamed on one of them is blamed on the
/// whole round.
async fn one_round<'a>(place: &RunnerAlone, round: &'a [Program]) -> Vec<(&'a Program, Vec<String>)> {
    let mut ran: Vec<(&Program, Vec<String>)> = stream::iter(round)
        .map(async |program| match place.run(program).await {
            Ok(ran) => (program, checks(program, &ran)),
            Err(error) => (program, vec![format!("no result: {error:#}")]),
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut after = left_over(&[]).await;
    after.extend(canary(place).await);
    for complaint in after {
        let complaint = format!("after this and {} others: {complaint}", round.len() - 1);
        for (_, found) in &mut ran {
            found.push(complaint.clone());
        }
    }
    ran
}

fn write(folder: &Path, program: &Program) -> Result<String> {
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("{}.py", program.name));
    fs::write(&file, program.code()).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(file.display().to_string())
}
