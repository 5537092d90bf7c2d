//! Figures and how they are shown.

use std::io::IsTerminal;

use serde::Serialize;

/// A figure that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The group it belongs to.
    pub group: &'static str,
    /// What was measured.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it stands beside: a limit of this machine, measured in the same run, or a fixed bound.
    pub limit: Option<Limit>,
    /// Whether it is what it must be; none where nothing is demanded.
    pub met: Option<bool>,
}

/// What a figure stands beside.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// What the limit is.
    pub name: String,
    /// Its value, in the figure's unit.
    pub value: f64,
    /// The figure as a share of it.
    pub ratio: f64,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy)]
pub enum Demand {
    /// At least this much.
    AtLeast(f64),
    /// At most this much.
    AtMost(f64),
    /// At least this share of the limit.
    ShareAtLeast(f64),
    /// At most this share of the limit.
    ShareAtMost(f64),
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    figures: Vec<Figure>,
    skipped: Vec<(String, String)>,
    #[serde(skip)]
    json: bool,
    #[serde(skip)]
    quiet: bool,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpus: usize,
    cpu: String,
    memory_gib: u64,
    version: &'static str,
    optimised: bool,
}

impl Report {
    /// An empty report.
    pub fn new(json: bool, quiet: bool) -> Self {
        let report = Self { machine: Machine::read(), figures: Vec::new(), skipped: Vec::new(), json, quiet };
        if !json {
            let Machine { cpus, cpu, memory_gib, version, optimised } = &report.machine;
            println!("cairn {version} on {cpus} × {cpu}, {memory_gib} GiB");
            if !optimised {
                println!("NOTE: this is a debug build; measure with --release");
            }
            println!("\n{:<54} {:>12} {:<8} {:>12}  {:<34}", "figure", "measured", "unit", "limit", "which limit");
        }
        report
    }

    /// Says what is being done, on a terminal.
    pub fn doing(&self, what: &str) {
        if !self.quiet && std::io::stderr().is_terminal() {
            eprintln!("… {what}");
        }
    }

    /// Adds a figure that stands alone.
    pub fn add(
        &mut self,
        group: &'static str,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        demand: Option<Demand>,
    ) {
        let limit = match demand {
            Some(Demand::AtLeast(bound)) => Some(("at least", bound)),
            Some(Demand::AtMost(bound)) => Some(("at most", bound)),
            _ => None,
        };
        let limit = limit.map(|(name, bound)| Limit { name: name.to_owned(), value: bound, ratio: value / bound });
        self.push(Figure { group, name: name.into(), value, unit, limit, met: None }, demand);
    }

    /// Adds a figure beside a limit measured in the same run.
    pub fn beside(
        &mut self,
        group: &'static str,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        limit: (&str, f64),
        demand: Option<Demand>,
    ) {
        let limit = Limit { name: limit.0.to_owned(), value: limit.1, ratio: value / limit.1 };
        self.push(Figure { group, name: name.into(), value, unit, limit: Some(limit), met: None }, demand);
    }

    /// Notes what was not measured, and why.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.skipped.push((name.to_owned(), why.to_owned()));
    }

    fn push(&mut self, mut figure: Figure, demand: Option<Demand>) {
        let share = figure.limit.as_ref().map_or(0.0, |limit| limit.ratio);
        figure.met = demand.map(|demand| match demand {
            Demand::AtLeast(bound) => figure.value >= bound,
            Demand::AtMost(bound) => figure.value <= bound,
            Demand::ShareAtLeast(bound) => share >= bound,
            Demand::ShareAtMost(bound) => share <= bound,
        });
        if !self.json {
            let limit = figure.limit.as_ref();
            let beside = limit.map(|limit| number(limit.value)).unwrap_or_default();
            let which = limit.map(|limit| format!("{} (× {:.2})", limit.name, limit.ratio)).unwrap_or_default();
            let mark = match figure.met {
                Some(true) => "ok",
                Some(false) => "MISSED",
                None => "",
            };
            let name = format!("{}: {}", figure.group, figure.name);
            println!(
                "{name:<54} {:>12} {:<8} {beside:>12}  {which:<34} {mark}",
                number(figure.value),
                figure.unit
            );
        }
        self.figures.push(figure);
    }

    /// Prints what is left to print.
    pub fn finish(&self) {
        if self.json {
            println!("{}", serde_json::to_string_pretty(self).unwrap_or_default());
            return;
        }
        let missed = self.figures.iter().filter(|figure| figure.met == Some(false)).count();
        let demanded = self.figures.iter().filter(|figure| figure.met.is_some()).count();
        println!("\n{} of {demanded} demands met", demanded - missed);
        for (name, why) in &self.skipped {
            println!("not measured: {name}: {why}");
        }
    }
}

impl Machine {
    fn read() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            memory_gib: kib.unwrap_or(0_u64).div_ceil(1024 * 1024),
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
        }
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The value below which a share of the samples lies. Sorts the samples.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    samples.sort_by(f64::total_cmp);
    let last = samples.len() - 1;
    // The index of a share of at most one lies within the samples.
    samples[((last as f64 * share).round() as usize).min(last)]
}
