//! What the figures should be: a line for each target whose figures the report has.

use super::{IsolationOverhead, Report, Summary};

/// A figure of a kind, and its name.
type Figure = (&'static str, fn(&Summary) -> f64);
const P50: Figure = ("p50", |summary| summary.p50_ms);
const P99: Figure = ("p99", |summary| summary.p99_ms);

/// Most that this figure of a kind should be, in milliseconds.
const TIMES: [(&str, Figure, f64); 6] = [
    ("warm", P50, 30.0),
    ("warm", P99, 100.0),
    ("warm_refilling", P50, 100.0),
    ("warm_pandas", P50, 60.0),
    ("live", P50, 100.0),
    ("burst8", P50, 300.0),
];

/// Most that the median of one kind should be of that of another.
const RATIOS: [(&str, &str, f64); 2] = [("cold", "floor.pod", 1.3), ("local", "floor.python", 3.0)];

/// Least that one rate should be of another.
const SHARES: [(&str, &str, f64); 2] = [
    ("sustained", "pods", 0.9),
    ("sustained_preload", "pods_preload", 0.9),
];

/// Least that a rate should be, a second.
const RATES: [(&str, f64); 2] = [("api_requests", 5000.0), ("sustained_reuse", 40.0)];

/// Most that an API server should take with 1,000 clients that wait, in MB.
const WAITING_MB: f64 = 100.0;

/// How many executions of `burst16` find no Pod ready, and how much longer than the bare Pods they may take.
const BEYOND_THE_POOL: f64 = 8.0;
const BEYOND_THE_PODS: f64 = 1.5;

/// Each target, the figure beside it, and whether it is met.
#[must_use]
pub fn lines(report: &Report) -> Vec<String> {
    let ratios = RATIOS
        .iter()
        .filter_map(|&(of, to, target)| ratio(report, of, to, target));
    let times = TIMES.iter().filter_map(|&(kind, (name, figure), target)| {
        let ms = figure(report.times.get(kind)?);
        Some(at_most(&format!("{kind} {name}"), ms, target))
    });
    let shares = SHARES
        .iter()
        .filter_map(|&(of, to, target)| share(report, of, to, target));
    let rates = RATES.iter().filter_map(|&(kind, target)| {
        let rate = report.rates.get(kind)?.per_second;
        let verdict = verdict(rate >= target);
        Some(format!(
            "{kind} = {rate:.2} a second (target at least {target}: {verdict})"
        ))
    });
    ratios
        .chain(times)
        .chain(burst_beyond_the_pool(report))
        .chain(shares)
        .chain(rates)
        .chain(isolation(report))
        .chain(api(report))
        .collect()
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn at_most(name: &str, ms: f64, target: f64) -> String {
    format!("{name} = {ms:.2} ms (target {target}: {})", verdict(ms <= target))
}

/// A ratio of two medians.
fn ratio(report: &Report, of: &str, to: &str, target: f64) -> Option<String> {
    let (of_ms, to_ms) = (report.times.get(of)?.p50_ms, report.times.get(to)?.p50_ms);
    if to_ms == 0.0 {
        return None;
    }
    let ratio = of_ms / to_ms;
    let verdict = verdict(ratio <= target);
    Some(format!("{of} / {to} = {ratio:.2} (target {target}: {verdict})"))
}

/// A ratio of two rates.
fn share(report: &Report, of: &str, to: &str, target: f64) -> Option<String> {
    let (of_rate, to_rate) = (report.rates.get(of)?.per_second, report.rates.get(to)?.per_second);
    if to_rate == 0.0 {
        return None;
    }
    let share = of_rate / to_rate;
    let verdict = verdict(share >= target);
    Some(format!(
        "{of} / {to} = {share:.2} (target at least {target}: {verdict})"
    ))
}

/// Those that find no Pod ready can't be sooner than as many bare Pods.
fn burst_beyond_the_pool(report: &Report) -> Option<String> {
    let ms = report.times.get("burst16")?.p50_ms;
    let Some(pods) = report.rates.get("pods").filter(|rate| rate.per_second > 0.0) else {
        return Some(format!(
            "burst16 p50 = {ms:.2} ms (its target follows from pods, which was not measured)"
        ));
    };
    let target = BEYOND_THE_PODS * 1000.0 * BEYOND_THE_POOL / pods.per_second;
    let verdict = verdict(ms <= target);
    Some(format!(
        "burst16 p50 = {ms:.2} ms (target {BEYOND_THE_PODS} * {BEYOND_THE_POOL} / pods = {target:.0}: {verdict})"
    ))
}

/// What the runner's layers cost.
fn isolation(report: &Report) -> impl Iterator<Item = String> {
    report
        .isolation_overhead_ms
        .into_iter()
        .flat_map(|IsolationOverhead { cold, warm }| {
            [
                at_most("layers.cold - bare.cold", cold, 10.0),
                at_most("layers.warm - bare.warm", warm, 2.0),
            ]
        })
}

/// What the API server takes itself, in time and in memory.
fn api(report: &Report) -> impl Iterator<Item = String> {
    let overhead = report.api_overhead_ms;
    let overhead = overhead.map(|ms| at_most("api_overhead_ms = api.full - api.bare", ms, 1.0));
    let waiting = report.api_waiting_mb.map(|mb| {
        let verdict = verdict(mb <= WAITING_MB);
        format!("1000 clients that wait: {mb:.1} MB resident (target {WAITING_MB}: {verdict})")
    });
    overhead.into_iter().chain(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn what_was_not_measured_has_no_line() {
        assert_eq!(lines(&report(&[], &[])), [""; 0]);
        assert_eq!(lines(&report(&[("cold", 1)], &[("pods", 1)])), [""; 0]);
    }

    #[test]
    fn a_time_at_its_target_has_met_it() {
        assert_eq!(
            lines(&report(&[("warm", 30), ("burst8", 301)], &[])),
            [
                "warm p50 = 30.00 ms (target 30: met)",
                "warm p99 = 30.00 ms (target 100: met)",
                "burst8 p50 = 301.00 ms (target 300: MISSED)",
            ]
        );
    }

    #[test]
    fn rates_are_compared_with_those_of_bare_pods() {
        let rates = [
            ("pods", 40),
            ("sustained", 36),
            ("pods_preload", 10),
            ("sustained_preload", 8),
            ("sustained_reuse", 400),
        ];
        assert_eq!(
            lines(&report(&[], &rates)),
            [
                "sustained / pods = 0.90 (target at least 0.9: met)",
                "sustained_preload / pods_preload = 0.80 (target at least 0.9: MISSED)",
                "sustained_reuse = 40.00 a second (target at least 40: met)",
            ]
        );
    }

    #[test]
    fn the_api_server_has_a_millisecond_and_100_mb() {
        let mut report = report(&[("api.full", 2), ("api.bare", 1)], &[("api_requests", 49_999)]);
        report.compare_api();
        report.api_waiting_mb = Some(100.1);
        assert_eq!(
            lines(&report),
            [
                "api_requests = 4999.90 a second (target at least 5000: MISSED)",
                "api_overhead_ms = api.full - api.bare = 1.00 ms (target 1: met)",
                "1000 clients that wait: 100.1 MB resident (target 100: MISSED)",
            ]
        );
    }

    #[test]
    fn a_burst_beyond_the_pool_may_take_as_long_as_its_pods_and_half_of_that() {
        let burst = [("burst16", 3000)];
        assert_eq!(
            lines(&report(&burst, &[("pods", 40)])),
            ["burst16 p50 = 3000.00 ms (target 1.5 * 8 / pods = 3000: met)"]
        );
        assert_eq!(
            lines(&report(&burst, &[])),
            ["burst16 p50 = 3000.00 ms (its target follows from pods, which was not measured)"]
        );
    }
}
