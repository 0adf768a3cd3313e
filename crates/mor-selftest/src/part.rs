//! What the self-test is made of.

/// A part of the self-test; each stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The adapter, its limits and features.
    Adapter,
    /// Kernels of inference, and every operation of training forward and backward, in every variant against the CPU.
    Operations,
    /// Golden vectors, and small models of both families in every variant and storage, against the CPU.
    Goldens,
    /// Twenty greedy answers of a model against the CPU's.
    Answers,
    /// How fast all presets decode and read prompts.
    Speed,
    /// How fast models train.
    Training,
    /// Whether a short training follows the CPU's.
    Losses,
}

impl Part {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 7] = [
        Self::Adapter,
        Self::Operations,
        Self::Goldens,
        Self::Answers,
        Self::Speed,
        Self::Training,
        Self::Losses,
    ];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Operations => "operations",
            Self::Goldens => "goldens",
            Self::Answers => "answers",
            Self::Speed => "speed",
            Self::Training => "training",
            Self::Losses => "losses",
        }
    }

    /// What it is about, in a line.
    pub fn title(self) -> &'static str {
        match self {
            Self::Adapter => "the adapter, its limits and features",
            Self::Operations => "single operations against the CPU, forward and backward",
            Self::Goldens => "golden vectors and small models against the CPU",
            Self::Answers => "twenty greedy answers against the CPU's",
            Self::Speed => "decoding and prefill",
            Self::Training => "training steps",
            Self::Losses => "losses of a short training against the CPU's",
        }
    }

    /// Its share of the time, in seconds.
    pub fn seconds(self, minutes: f64) -> f64 {
        let share = match self {
            Self::Adapter => 0.01,
            Self::Operations => 0.2,
            Self::Goldens => 0.19,
            Self::Answers => 0.1,
            Self::Speed => 0.25,
            Self::Training => 0.15,
            Self::Losses => 0.1,
        };
        60.0 * minutes * share
    }

    /// The part of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_whole_time_and_names_are_read() {
        let all: f64 = Part::ALL.iter().map(|part| part.seconds(1.0)).sum();
        assert!((all - 60.0).abs() < 1e-9, "{all}");
        for part in Part::ALL {
            assert_eq!(Part::named(part.name()), Some(part));
        }
        assert_eq!(Part::named("nothing"), None);
    }
}
