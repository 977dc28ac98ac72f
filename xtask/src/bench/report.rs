//! Figures with their units and bars, as a table for people and as one line of JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// It is less than this.
    Below(f64),
    /// It is this or more.
    AtLeast(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(bar) => value < bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Below(bar) => format!("< {}", figure(bar)),
            Self::AtLeast(bar) => format!("≥ {}", figure(bar)),
        }
    }
}

#[derive(Debug, Clone)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    bar: Option<Bar>,
}

/// The figures of one bench.
#[derive(Debug, Clone)]
pub struct Report {
    bench: &'static str,
    facts: Map<String, Value>,
    rows: Vec<Row>,
}

impl Report {
    /// An empty report; it says on what machine it was made.
    pub fn new(bench: &'static str) -> Self {
        let mut report = Self { bench, facts: Map::new(), rows: Vec::new() };
        report.fact("machine", machine());
        report
    }

    /// Says something about how it was measured: sizes, settings.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Adds a figure. `name` is the key in JSON too: `draw_p99`.
    pub fn row(&mut self, name: impl Into<String>, value: f64, unit: &'static str, bar: Option<Bar>) {
        self.rows.push(Row { name: name.into(), value, unit, bar });
    }

    /// The names of the figures that do not reach their bars.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.rows.iter().filter(|row| row.bar.is_some_and(|bar| !bar.holds(row.value)));
        missed.map(|row| row.name.clone()).collect()
    }

    /// Prints the table on standard error and the JSON line on standard output.
    pub fn print(&self) {
        eprint!("\n{}", self.table());
        println!("{}", self.json());
    }

    fn table(&self) -> String {
        let mut text = format!("bench {}", self.bench);
        for (name, value) in &self.facts {
            let _ = write!(text, " · {name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        text.push_str("\n\n");
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        for Row { name, value, unit, bar } in &self.rows {
            let bar = bar.map_or(String::new(), |bar| {
                format!("{:<10} {}", bar.text(), if bar.holds(*value) { "✓" } else { "✗ missed" })
            });
            let line = format!("  {name:<width$} {:>12} {unit:<14} {bar}", figure(*value));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|Row { name, value, unit, bar }| match bar {
                None => json!({ "name": name, "value": value, "unit": unit }),
                Some(bar) => {
                    json!({ "name": name, "value": value, "unit": unit, "bar": bar.text(), "ok": bar.holds(*value) })
                }
            })
            .collect();
        json!({ "bench": self.bench, "facts": self.facts, "figures": rows })
    }
}

/// Three or four digits that count, without a tail of zeros.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        0.0..1.0 => 4,
        1.0..10.0 => 3,
        10.0..100.0 => 2,
        100.0..1000.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Processor and cores, as far as the system tells.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{model}, {cores} cores")
}

/// The smallest value that at least `share` of the values do not exceed; `NaN` without values.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_told_and_kept() {
        let mut report = Report { bench: "x", facts: Map::new(), rows: Vec::new() };
        report.fact("size", 3);
        report.row("a", 4.25, "ms", Some(Bar::Below(5.0)));
        report.row("bb", 0.5, "tokens/s", Some(Bar::AtLeast(2.0)));
        report.row("c", 1234.5, "", None);
        report.row("d", f64::NAN, "ms", Some(Bar::Below(1.0)));
        assert_eq!(report.missed(), ["bb", "d"], "what was not measured is missed");
        let table = report.table();
        assert!(table.starts_with("bench x · size: 3\n"), "{table}");
        assert!(table.contains("a         4.250 ms             < 5        ✓\n"), "{table}");
        assert!(table.contains("≥ 2        ✗ missed\n"), "{table}");
        let json = report.json();
        assert_eq!(json["figures"][0], json!({ "name": "a", "value": 4.25, "unit": "ms", "bar": "< 5", "ok": true }));
        assert_eq!(json["figures"][2].get("bar"), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| percentile(&values, share) as u32), [1, 100, 198, 200]);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
