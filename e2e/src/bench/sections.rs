//! The parts of the benchmark, all of them or those that somebody asks for.

use std::fmt;

use anyhow::{Context, Result, ensure};

/// A part that measures by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Cold and local answers, and the floors of both.
    Answers,
    /// Answers from Pods that are ready.
    Warm,
    /// Many requests at once.
    Burst,
    /// Executions and bare Pods a second.
    Sustained,
    /// The runner's own layers. Needs no cluster.
    Isolation,
    /// The API server itself. Needs no cluster.
    Api,
    /// Memory and CPU of processes that idle.
    Idle,
}

impl Section {
    const ALL: [Self; 7] = [
        Self::Answers,
        Self::Warm,
        Self::Burst,
        Self::Sustained,
        Self::Isolation,
        Self::Api,
        Self::Idle,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Warm => "warm",
            Self::Burst => "burst",
            Self::Sustained => "sustained",
            Self::Isolation => "isolation",
            Self::Api => "api",
            Self::Idle => "idle",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Those that are to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections(Vec<Section>);

impl Sections {
    /// All of them, or those whose names stand in `only`, separated by commas.
    ///
    /// # Errors
    /// When it has another name, or none.
    pub fn parse(only: Option<&str>) -> Result<Self> {
        let Some(only) = only else {
            return Ok(Self(Section::ALL.to_vec()));
        };
        let mut chosen = only
            .split(',')
            .filter(|name| !name.trim().is_empty())
            .map(|name| {
                Section::ALL
                    .into_iter()
                    .find(|section| section.name() == name.trim())
                    .with_context(|| {
                        let names = Section::ALL.map(Section::name).join(", ");
                        format!("BENCH_ONLY may name {names}, but not {name}")
                    })
            })
            .collect::<Result<Vec<_>>>()?;
        chosen.sort_unstable();
        chosen.dedup();
        ensure!(!chosen.is_empty(), "BENCH_ONLY names nothing");
        Ok(Self(chosen))
    }

    /// In the order in which they are measured.
    pub fn iter(&self) -> impl Iterator<Item = Section> {
        self.0.iter().copied()
    }

    /// Name of the report's file without its extension: parts do not replace the report of the whole.
    #[must_use]
    pub fn file_name(&self) -> String {
        if self.0 == Section::ALL {
            return "report".to_owned();
        }
        self.0
            .iter()
            .map(|section| section.name())
            .collect::<Vec<_>>()
            .join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_choice_everything_is_measured() -> Result<()> {
        let all = Sections::parse(None)?;
        assert_eq!(all.iter().count(), Section::ALL.len());
        assert_eq!(all.file_name(), "report");
        Ok(())
    }

    #[test]
    fn the_order_of_names_is_not_that_of_measuring() -> Result<()> {
        let chosen = Sections::parse(Some("sustained, burst,sustained"))?;
        assert_eq!(
            chosen.iter().collect::<Vec<_>>(),
            [Section::Burst, Section::Sustained]
        );
        assert_eq!(chosen.file_name(), "burst-sustained");
        Ok(())
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = Sections::parse(Some("warm,hot"))
            .expect_err("hot is none")
            .to_string();
        assert_eq!(
            error,
            "BENCH_ONLY may name answers, warm, burst, sustained, isolation, api, idle, but not hot"
        );
        assert!(Sections::parse(Some(" ")).is_err());
    }
}
