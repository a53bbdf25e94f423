//! The `# options: key=value ...` lines of a case.

use fhe_ir::{Elem, Graph, Interval, Value};
use fhe_passes::params::ErrorTarget;
use fhe_passes::{Bits, CalibrationMethod, Options, Ranges, Rounding};
use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// Where random real rows come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Normal,
    Uniform(f32, f32),
    /// `(pixel/255 − mean)/sd`.
    Pixels(f32, f32),
}

/// What a case asks for.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    /// Options of the pass.
    pub(super) options: Options,
    /// Rewrites that the pass may do.
    pub(super) budget: Option<u64>,
    /// Greatest difference of dequantized outputs, in place of the folder's.
    pub(super) bound: Option<f64>,
    calibration: Option<(Source, usize)>,
    inputs: Source,
}

impl Choices {
    /// Reads the comment lines at the head of a case. Keys:
    ///
    /// - `bits=N`, `model_inputs=N`, `op_inputs=N`, `op_weights=N`, `model_outputs=N`;
    /// - `output_weights=N`: bits of the weights behind the last tables;
    /// - `noise_bias=true` or `false`;
    /// - `rounding=off`, `rounding=full`, `rounding=P` or `rounding=exact:P`; `ranges=calibrated` or
    ///   `ranges=worst-case`; `noise=LOG2_SD` in place of an error probability; `max_key_mib=N` for several sets;
    ///   `margin=F`; `seed=N`;
    /// - `method=min-max`, `method=mse` or `method=percentile:P`;
    /// - `calibration=normal:ROWS`, `calibration=uniform:LO:HI:ROWS` or `calibration=pixels:MEAN:SD:ROWS`: calibration
    ///   rows, of which the last are `(pixel/255 − MEAN)/SD`;
    /// - `inputs=normal`, `inputs=uniform:LO:HI` or `inputs=pixels:MEAN:SD`: rows on which real graphs are compared;
    /// - `budget=K`: rewrites allowed; `bound=F`: greatest difference at outputs.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut choices =
            Self { options: Options::default(), budget: None, bound: None, calibration: None, inputs: Source::Normal };
        let lines = text.lines().take_while(|l| l.starts_with('#') || l.trim().is_empty());
        for word in lines.filter_map(|l| l.strip_prefix("# options:")).flat_map(str::split_whitespace) {
            let (key, value) = word.split_once('=').ok_or(format!("`{word}` is not key=value"))?;
            choices.set(key, value).ok_or(format!("`{word}` is not an option of cases"))?;
        }
        Ok(choices)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let Options { bits, calibration, range_margin, ranges, rounding, seed, .. } = &mut self.options;
        let parts: Vec<&str> = value.split(':').collect();
        match key {
            "bits" => *bits = Bits::uniform(value.parse().ok()?),
            "model_inputs" => bits.model_inputs = value.parse().ok()?,
            "op_inputs" => bits.op_inputs = value.parse().ok()?,
            "op_weights" => bits.op_weights = value.parse().ok()?,
            "model_outputs" => bits.model_outputs = value.parse().ok()?,
            "margin" => *range_margin = value.parse().ok()?,
            "seed" => *seed = value.parse().ok()?,
            "budget" => self.budget = Some(value.parse().ok()?),
            "bound" => self.bound = Some(value.parse().ok()?),
            "rounding" if value == "off" => *rounding = Rounding::Off,
            "rounding" if value == "full" => *rounding = Rounding::Full,
            "max_key_mib" => self.options.max_key_bytes = value.parse::<u64>().ok()?.checked_mul(1 << 20)?,
            "output_weights" => self.options.output_weights = Some(value.parse().ok()?),
            "noise_bias" => self.options.noise_bias = value.parse().ok()?,
            "noise" => self.options.error = ErrorTarget::Noise(value.parse().ok()?),
            "rounding" if parts[0] == "exact" => *rounding = Rounding::Exact(parts.get(1)?.parse().ok()?),
            "rounding" => *rounding = Rounding::Approximate(value.parse().ok()?),
            "ranges" => {
                *ranges = match value {
                    "calibrated" => Ranges::Calibrated,
                    "worst-case" => Ranges::WorstCase,
                    _ => return None,
                }
            }
            "method" => {
                *calibration = match parts[..] {
                    ["min-max"] => CalibrationMethod::MinMax,
                    ["mse"] => CalibrationMethod::Mse,
                    ["percentile", p] => CalibrationMethod::Percentile(p.parse().ok()?),
                    _ => return None,
                }
            }
            "calibration" => {
                let (rows, source) = parts.split_last()?;
                self.calibration = Some((Source::parse(source)?, rows.parse().ok()?));
            }
            "inputs" => self.inputs = Source::parse(&parts)?,
            _ => return None,
        }
        Some(())
    }

    /// Calibration rows, one array per input; none when the case does not ask for any.
    pub(super) fn calibration(&self, graph: &Graph) -> Vec<ArrayD<f32>> {
        let Some((source, rows)) = self.calibration else { return vec![] };
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        values(graph).map(|value| source.rows(&mut rng, value, rows)).collect()
    }

    /// Rows on which real graphs are compared.
    pub(super) fn real_rows(&self, graph: &Graph, rows: usize) -> Vec<ArrayD<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed ^ 0x6d65_616e);
        values(graph).map(|value| self.inputs.rows(&mut rng, value, rows)).collect()
    }

    /// Rows on which integer graphs are compared: all there are up to `limit`, else the ends of the ranges and random rows.
    pub(super) fn integer_rows(&self, graph: &Graph, limit: usize, random: usize) -> Vec<ArrayD<i64>> {
        let ranges: Vec<Vec<Interval>> = values(graph).map(element_ranges).collect();
        let flat: Vec<Interval> = ranges.iter().flatten().copied().collect();
        let all = flat.iter().try_fold(1usize, |n, i| n.checked_mul(i.width() as usize).filter(|&n| n <= limit));
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed ^ 0x696e_7473);
        let rows: Vec<Vec<i64>> = match all {
            Some(count) => (0..count).map(|at| digits(at, &flat)).collect(),
            None => {
                let mut rows = vec![flat.iter().map(|i| i.lo).collect(), flat.iter().map(|i| i.hi).collect::<Vec<_>>()];
                let draw =
                    |i: &Interval, rng: &mut ChaCha8Rng| Uniform::new_inclusive(i.lo, i.hi).map(|u| u.sample(rng));
                for _ in 0..random {
                    rows.push(flat.iter().map(|i| draw(i, &mut rng).expect("intervals are not empty")).collect());
                }
                rows
            }
        };
        let mut from = 0;
        values(graph)
            .zip(&ranges)
            .map(|(value, ranges)| {
                let columns = from..from + ranges.len();
                from = columns.end;
                let data = rows.iter().flat_map(|row| row[columns.clone()].iter().copied()).collect();
                array(value, rows.len(), data)
            })
            .collect()
    }
}

impl Source {
    fn parse(parts: &[&str]) -> Option<Self> {
        match parts {
            ["normal"] => Some(Self::Normal),
            ["uniform", lo, hi] => Some(Self::Uniform(lo.parse().ok()?, hi.parse().ok()?)),
            ["pixels", mean, sd] => Some(Self::Pixels(mean.parse().ok()?, sd.parse().ok()?)),
            _ => None,
        }
    }

    fn rows(self, rng: &mut ChaCha8Rng, value: &Value, rows: usize) -> ArrayD<f32> {
        let count = rows * value.elements();
        let data = match self {
            Self::Normal => (0..count).map(|_| StandardNormal.sample(rng)).collect(),
            Self::Pixels(mean, sd) => {
                let pixels = Uniform::new_inclusive(0u8, 255).expect("not empty");
                (0..count).map(|_| (f32::from(pixels.sample(rng)) / 255.0 - mean) / sd).collect()
            }
            Self::Uniform(lo, hi) => {
                let uniform = Uniform::new_inclusive(lo, hi).expect("the case gives LO below HI");
                (0..count).map(|_| uniform.sample(rng)).collect()
            }
        };
        array(value, rows, data)
    }
}

fn values(graph: &Graph) -> impl Iterator<Item = &Value> {
    graph.inputs().into_iter().map(|id| graph.value(id))
}

fn array<T>(value: &Value, rows: usize, data: Vec<T>) -> ArrayD<T> {
    let mut shape = value.shape.clone();
    shape[0] = rows;
    ArrayD::from_shape_vec(IxDyn(&shape), data).expect("as many numbers as elements")
}

/// The interval of each element of an integer input, in row-major order.
fn element_ranges(value: &Value) -> Vec<Interval> {
    assert!(matches!(value.elem, Elem::Int(_)), "inputs of integer graphs are integers");
    let inner: usize = value.shape.iter().skip(2).product();
    (0..value.elements()).map(|e| value.channel_interval(e / inner).expect("integers have an interval")).collect()
}

/// Row number `at` of all rows, least significant element first.
fn digits(mut at: usize, ranges: &[Interval]) -> Vec<i64> {
    ranges
        .iter()
        .map(|i| {
            let width = i.width() as usize;
            let digit = i.lo + (at % width) as i64;
            at /= width;
            digit
        })
        .collect()
}
