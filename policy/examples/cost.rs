//! How long the policy takes: `cargo run --release -p codeexec-policy --example cost`. It prints the time of ordinary
//! programs, and the most hostile shapes that it knows.
#![allow(clippy::print_stdout)] // that is what it is for

#[path = "../tests/shapes/mod.rs"]
mod shapes;

use std::time::{Duration, Instant};

use codeexec_policy::check;

/// Something like what people send, as long as asked for.
fn ordinary(chars: usize) -> String {
    const PIECE: &str = r#"import json
import numpy as np
from collections import defaultdict

class Account:
    """What a customer has."""

    def __init__(self, owner: str, balance: float = 0.0) -> None:
        self.owner, self.balance = owner, balance

    def deposit(self, amount: float) -> float:
        if amount <= 0 or amount > 1e6:
            raise ValueError(f"cannot deposit {amount:.2f} for {self.owner!r}")
        self.balance += amount
        return self.balance

totals = defaultdict(list)
for number, line in enumerate(open("data.csv")):
    name, *values = [part.strip() for part in line.split(",")]
    totals[name].extend(float(value) for value in values if value)  # empty ones are none
print(json.dumps({name: np.mean(values) for name, values in totals.items()}, indent=2, sort_keys=True))

"#;
    PIECE.chars().cycle().take(chars).collect()
}

fn time(program: &str) -> Duration {
    let start = Instant::now();
    std::hint::black_box(check(std::hint::black_box(program)));
    start.elapsed()
}

fn quantiles(program: &str, runs: usize) -> [Duration; 3] {
    let mut times: Vec<Duration> = (0..runs).map(|_| time(program)).collect();
    times.sort_unstable();
    [times[runs / 2], times[runs * 99 / 100], times[runs - 1]]
}

fn main() {
    // The main thread's stack is of another size than those of servers.
    let thread = std::thread::spawn(measure);
    thread.join().expect("the measuring does not panic");
}

fn measure() {
    for chars in [20, 300, 1_000, 3_000, shapes::CHARS] {
        for (beginning, kind) in [("", "ordinary"), ("# os\n", "to be parsed")] {
            let program = format!("{beginning}{}", ordinary(chars - beginning.len()));
            let [p50, p99, max] = quantiles(&program, 2_000);
            println!("{chars:>6} characters, {kind}: p50 {p50:?}, p99 {p99:?}, max {max:?}");
        }
    }
    let mut worst: Vec<(Duration, String)> = shapes::all()
        .map(|program| {
            // The best of three: what the machine does meanwhile is not the program's doing.
            let least = (0..3).map(|_| time(&program)).min().unwrap_or_default();
            (least, program)
        })
        .collect();
    worst.sort_unstable();
    println!("\n{} hostile ones, the slowest:", worst.len());
    for (took, program) in worst.iter().rev().take(25) {
        let shown: String = program.chars().take(50).flat_map(char::escape_debug).collect();
        println!("  {took:?}  {shown}…");
    }
}
