//! What is done with every program, wherever it runs.

// Its lines are what it is for.
#![allow(clippy::print_stdout)]

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use codeexec_suite::{Observed, Outcome, Program, Target, complaints};
use futures::{StreamExt, stream};

use crate::unique;

/// How long after its timeout a program's answer must have come.
pub const GRACE: Duration = Duration::from_secs(2);

/// Most that is kept of both streams together.
const OUTPUT_BYTES: usize = 1024 * 1024;

/// How one program went.
#[derive(Debug)]
pub struct Ran {
    /// As a user sees it.
    pub observed: Observed,
    /// From sending it to its result.
    pub took: Duration,
    /// What the place itself found wrong.
    pub complaints: Vec<String>,
    /// The execution, where it has a name.
    pub id: Option<String>,
}

/// Where programs run.
pub trait Place {
    /// What it is.
    const TARGET: Target;

    /// Programs at once.
    const AT_ONCE: usize;

    /// After how many programs the next one is a harmless one, to see that it works.
    const CANARY_EVERY: usize = 1;

    /// Runs a program.
    ///
    /// # Errors
    /// When nothing came of it at all.
    fn run(&self, program: &Program) -> impl Future<Output = Result<Ran>>;

    /// Waits until nothing of a program is left, and otherwise says what is.
    fn left_over(&self, ran: &Ran) -> impl Future<Output = Vec<String>>;

    /// The same, after the last program.
    fn left_at_the_end(&self) -> impl Future<Output = Vec<String>> {
        async { Vec::new() }
    }
}

/// How a suite went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Programs with every check passed.
    pub passed: usize,
    /// Programs with a complaint.
    pub failed: usize,
    /// Programs that this place can't run.
    pub skipped: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(formatter, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Runs the programs of the suite whose group and name hold `filter`, and prints a line for each.
///
/// # Errors
/// When the place can't run any program.
pub async fn suite<P: Place>(place: &P, filter: &str) -> Result<Tally> {
    let began = Instant::now();
    let target = P::TARGET;
    let mut programs = codeexec_suite::programs()?;
    programs.retain(|program| program.runs_on(target) && title(program).contains(filter));
    ensure!(
        !programs.is_empty(),
        "no program of the suite for {target} is called {filter:?}"
    );
    let missing = missing_modules(place, &programs).await?;
    let lacks = |program: &Program| -> Vec<String> {
        let needs = program.needs.iter();
        needs
            .filter(|module| missing.contains(*module))
            .cloned()
            .collect()
    };
    let mut tally = Tally::default();
    let (able, unable): (Vec<_>, Vec<_>) = programs
        .into_iter()
        .partition(|program| lacks(program).is_empty());
    for program in &unable {
        println!(
            "skip  {target} {}: needs {}",
            title(program),
            lacks(program).join(", ")
        );
        tally.skipped += 1;
    }
    let mut cases = stream::iter(able.iter().enumerate())
        .map(async |(number, program)| {
            let with_canary = number % P::CANARY_EVERY == 0;
            (program, case(place, program, with_canary).await)
        })
        .buffer_unordered(P::AT_ONCE);
    while let Some((program, (took, complaints))) = cases.next().await {
        if complaints.is_empty() {
            println!("ok    {target} {} ({} ms)", title(program), took.as_millis());
            tally.passed += 1;
        } else {
            println!("FAIL  {target} {}: {}", title(program), complaints.join("; "));
            tally.failed += 1;
        }
    }
    let left = place.left_at_the_end().await;
    if !left.is_empty() {
        println!("FAIL  {target} at the end: {}", left.join("; "));
        tally.failed += 1;
    }
    println!("{target}: {tally}, in {} s", began.elapsed().as_secs());
    Ok(tally)
}

fn title(program: &Program) -> String {
    format!("{}/{}", program.group, program.name)
}

/// Runs a program and, if wanted, a harmless one. Returns its time, and what is wrong.
async fn case<P: Place>(place: &P, program: &Program, with_canary: bool) -> (Duration, Vec<String>) {
    let began = Instant::now();
    let (took, mut found) = match place.run(program).await {
        Ok(ran) => {
            let mut found = checks(program, &ran);
            found.extend(place.left_over(&ran).await);
            (ran.took, found)
        }
        Err(error) => (began.elapsed(), vec![format!("no result: {error:#}")]),
    };
    if with_canary {
        found.extend(canary(place).await);
    }
    (took, found)
}

/// What must be true of a program's end before anything else is looked at.
pub fn checks(program: &Program, ran: &Ran) -> Vec<String> {
    let mut found = complaints(program, &ran.observed);
    let kept = printed(&ran.observed.stdout) + printed(&ran.observed.stderr);
    if kept > OUTPUT_BYTES {
        found.push(format!(
            "{kept} bytes of output were kept, more than {OUTPUT_BYTES}"
        ));
    }
    found.extend(ran.complaints.iter().cloned());
    found
}

/// How many bytes a program printed at least for this to be kept. The bound counts them as printed, and what is
/// no UTF-8 becomes a character of three bytes.
fn printed(text: &str) -> usize {
    let replaced = text.matches(char::REPLACEMENT_CHARACTER).count();
    text.len() - replaced * (char::REPLACEMENT_CHARACTER.len_utf8() - 1)
}

/// The complaint about a time above its bound.
pub fn in_time(what: &str, took: Duration, bound: Duration) -> Option<String> {
    let ms = |time: Duration| time.as_millis();
    (took > bound).then(|| format!("{what} after {} ms, later than {} ms", ms(took), ms(bound)))
}

/// How long a program's result may take.
pub fn bound(program: &Program) -> Duration {
    Duration::from_secs(u64::try_from(program.timeout_seconds).unwrap_or_default()) + GRACE
}

/// What is wrong with the next program, which does nothing but print a word that nobody can know.
pub async fn canary<P: Place>(place: &P) -> Vec<String> {
    let word = unique("canary");
    let program = Program::that_prints("canary", format!("print({word:?})"), format!("{word}\n"));
    let found = match place.run(&program).await {
        Ok(ran) => checks(&program, &ran),
        Err(error) => vec![format!("no result: {error:#}")],
    };
    found
        .into_iter()
        .map(|complaint| format!("the next program: {complaint}"))
        .collect()
}

/// Those of the modules that programs need which can't be imported there.
async fn missing_modules<P: Place>(place: &P, programs: &[Program]) -> Result<HashSet<String>> {
    let needed: HashSet<&String> = programs.iter().flat_map(|program| &program.needs).collect();
    if needed.is_empty() {
        return Ok(HashSet::new());
    }
    let code = format!(
        "import importlib.util\nprint(*[m for m in {needed:?} if importlib.util.find_spec(m) is None])"
    );
    let ran = place.run(&Program::that_prints("modules", code, "")).await?;
    let observed = &ran.observed;
    ensure!(
        observed.outcome == Outcome::Success,
        "asked which modules there are, {} says {observed:?}",
        P::TARGET
    );
    Ok(observed.stdout.split_whitespace().map(str::to_owned).collect())
}
