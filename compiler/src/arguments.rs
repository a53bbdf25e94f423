//! Values of command-line options that are more than a number: widths, probabilities, ranges, sweeps.

use std::ops::RangeInclusive;

use clap::ValueEnum;
use fhe_passes::budget::boxes;
use fhe_passes::{Bits, CalibrationMethod, Rounding};

/// Parses `6`, or `op_inputs=6:op_weights=4:model_inputs=8:model_outputs=9`.
///
/// `op_inputs` and `op_weights` are needed; the other two default to `op_inputs` and to 8 or more.
pub fn bits(text: &str) -> Result<Bits, String> {
    let width = |what: &str, n: &str| {
        let n: u32 = n.trim().parse().map_err(|_| format!("{what} is {n:?}, not a number of bits"))?;
        if Bits::RANGE.contains(&n) {
            Ok(n)
        } else {
            Err(format!("{what} is {n}, outside [{}, {}]", Bits::RANGE.start(), Bits::RANGE.end()))
        }
    };
    if !text.contains('=') {
        return Ok(Bits::uniform(width("--n-bits", text)?));
    }
    let mut widths = [None; 4];
    const KEYS: [&str; 4] = ["model_inputs", "op_inputs", "op_weights", "model_outputs"];
    for part in text.split(':') {
        let (key, n) = part.split_once('=').ok_or_else(|| format!("{part:?} is not KEY=BITS"))?;
        let at = KEYS.iter().position(|k| *k == key.trim()).ok_or_else(|| format!("{key:?} is none of {KEYS:?}"))?;
        widths[at] = Some(width(key, n)?);
    }
    let [model_inputs, Some(op_inputs), Some(op_weights), model_outputs] = widths else {
        return Err("op_inputs and op_weights are needed".into());
    };
    Ok(Bits {
        model_inputs: model_inputs.unwrap_or(op_inputs),
        op_inputs,
        op_weights,
        model_outputs: model_outputs.unwrap_or(op_inputs.max(8)),
    })
}

/// What `--rounding` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// As told.
    Fixed(Rounding),
    /// What is best under the contract: full within a budget, boxes under an error probability.
    Auto,
    /// Boxes of so many bits as are cheapest, under an error probability.
    Within(RangeInclusive<u32>),
}

impl Resolution {
    /// The rounding to begin with, and the bits to choose from where these are left open: within a budget, or under an
    /// error probability with rows to simulate or without.
    ///
    /// # Errors
    /// When boxes cannot be chosen.
    pub fn under(self, budget: bool, rows: bool) -> Result<(Rounding, Option<RangeInclusive<u32>>), String> {
        let widths = match self {
            Self::Fixed(rounding) => return Ok((rounding, None)),
            Self::Auto if budget => return Ok((Rounding::Full, None)),
            Self::Within(_) if budget => {
                return Err(
                    "boxes are chosen under an error probability: give --p-error, or --rounding full for a budget"
                        .into(),
                );
            }
            Self::Auto => boxes::WIDTHS,
            Self::Within(widths) => widths,
        };
        if !rows {
            return Err("what is accurate enough is simulated on rows of data: give --calibration X.npy or \
                        --evaluate X.npy"
                .into());
        }
        Ok((Rounding::Approximate(*widths.end()), Some(widths)))
    }
}

/// Parses `off`, `full`, `auto`, a number of bits from 1 to 16, or a range of these such as `2-8`.
pub fn resolution(text: &str) -> Result<Resolution, String> {
    if text == "auto" {
        return Ok(Resolution::Auto);
    }
    if let Some((Ok(from), Ok(to))) = text.split_once('-').map(|(from, to)| (from.parse(), to.parse())) {
        let within = Bits::RANGE.contains(&from) && Bits::RANGE.contains(&to) && from <= to;
        return within
            .then_some(Resolution::Within(from..=to))
            .ok_or_else(|| format!("{text:?} is no range in [1, 16]"));
    }
    rounding(text).map(Resolution::Fixed).map_err(|_| {
        format!("{text:?} is none of auto, off, full, a number of bits in [1, 16] and a range of them such as 2-8")
    })
}

/// Parses `off`, `full`, or a number of bits from 1 to 16.
pub fn rounding(text: &str) -> Result<Rounding, String> {
    match text {
        "off" => Ok(Rounding::Off),
        "full" => Ok(Rounding::Full),
        _ => match text.parse() {
            Ok(p) if Bits::RANGE.contains(&p) => Ok(Rounding::Approximate(p)),
            _ => Err(format!("{text:?} is none of off, full and a number of bits in [1, 16]")),
        },
    }
}

/// How an accumulator loses the bits that its tables do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoundingMethod {
    /// The low bits fall into the noise: free, and off by one box where a value is close to a border.
    Approximate,
    /// The low bits are removed one by one, each with a bootstrap: every value falls into its box.
    Exact,
}

impl RoundingMethod {
    /// What `--rounding` says, by this method.
    ///
    /// # Errors
    /// When tables are read in full: nothing is rounded then.
    pub fn apply(self, rounding: Rounding) -> Result<Rounding, String> {
        match (self, rounding) {
            (Self::Exact, Rounding::Approximate(p)) => Ok(Rounding::Exact(p)),
            (Self::Exact, Rounding::Full) => Err("exact needs a number of bits in --rounding, not full".into()),
            _ => Ok(rounding),
        }
    }
}

/// Parses a probability between 0 and 1: `0.01`, `1e-6` or `2^-40`.
pub fn probability(text: &str) -> Result<f64, String> {
    let value = match text.strip_prefix("2^") {
        Some(exponent) => exponent.parse::<f64>().ok().map(f64::exp2),
        None => text.parse().ok(),
    };
    value.filter(|p| *p > 0.0 && *p < 1.0).ok_or_else(|| format!("{text:?} is not a probability such as 0.01 or 2^-40"))
}

/// Parses a size in bytes: `2GiB`, `500MiB`, `64KiB` or a number of bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0), ("", 0)];
    let (number, shift) = (units.iter())
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .expect("every text ends in nothing");
    let bytes = number.trim().parse::<f64>().ok().map(|n| n * f64::from(1u32 << shift));
    bytes
        .filter(|b| (0.0..1e15).contains(b))
        .map(|b| b as u64)
        .ok_or_else(|| format!("{text:?} is no size such as 2GiB or 500MiB"))
}

/// Parses a standard deviation of noise on the torus, `2^-9` or `0.002`, as its log2.
pub fn log2_noise(text: &str) -> Result<f64, String> {
    let log2 = match text.strip_prefix("2^") {
        Some(exponent) => exponent.parse::<f64>().ok(),
        None => text.parse::<f64>().ok().map(f64::log2),
    };
    log2.filter(|l| (-40.0..=-2.0).contains(l))
        .ok_or_else(|| format!("{text:?} is no standard deviation on the torus, such as 2^-9, between 2^-40 and 2^-2"))
}

/// Parses `min-max`, `mse` or a percentage such as `99.9`.
pub fn calibration_method(text: &str) -> Result<CalibrationMethod, String> {
    match text {
        "min-max" => Ok(CalibrationMethod::MinMax),
        "mse" => Ok(CalibrationMethod::Mse),
        _ => match text.parse::<f64>() {
            Ok(p) if p > 50.0 && p <= 100.0 => Ok(CalibrationMethod::Percentile(p)),
            _ => Err(format!("{text:?} is none of min-max, mse, or a percentage above 50")),
        },
    }
}

/// Parses `LO,HI`.
pub fn range(text: &str) -> Result<(f32, f32), String> {
    let parsed = text.split_once(',').and_then(|(lo, hi)| Some((lo.trim().parse().ok()?, hi.trim().parse().ok()?)));
    parsed
        .filter(|(lo, hi): &(f32, f32)| lo < hi && lo.is_finite() && hi.is_finite())
        .ok_or_else(|| format!("{text:?} is not LO,HI"))
}

/// Parses `NAME=EXTENT`.
pub fn dim(text: &str) -> Result<(String, usize), String> {
    text.split_once('=')
        .and_then(|(name, n)| Some((name.to_owned(), n.parse().ok().filter(|n| *n > 0)?)))
        .ok_or_else(|| format!("{text:?} is not NAME=EXTENT"))
}

/// Splits a list of values.
pub fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// Splits a list of values and inclusive ranges of whole numbers: `2-4,6` is `2`, `3`, `4`, `6`.
pub fn expand(text: &str) -> Vec<String> {
    let each = |part: &str| match part.split_once('-').map(|(a, b)| (a.parse::<u32>(), b.parse::<u32>())) {
        Some((Ok(a), Ok(b))) if a <= b && b - a < 64 => (a..=b).map(|n| n.to_string()).collect(),
        _ => vec![part.to_owned()],
    };
    list(text).iter().flat_map(|part| each(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_one_number_or_four() {
        assert_eq!(bits("6"), Ok(Bits::uniform(6)));
        let four = bits("op_inputs=4:op_weights=3:model_inputs=8").unwrap();
        assert_eq!((four.model_inputs, four.op_inputs, four.op_weights, four.model_outputs), (8, 4, 3, 8));
        assert!(bits("17").is_err() && bits("op_inputs=4").is_err() && bits("x=4:op_inputs=3").is_err());
    }

    #[test]
    fn resolutions_are_told_or_left_open() {
        assert_eq!(resolution("auto"), Ok(Resolution::Auto));
        assert_eq!(resolution("2-8"), Ok(Resolution::Within(2..=8)));
        assert_eq!(resolution("6"), Ok(Resolution::Fixed(Rounding::Approximate(6))));
        for wrong in ["8-2", "0-4", "2-17", "many", "-3", "2-", ""] {
            assert!(resolution(wrong).is_err(), "{wrong}");
        }
        assert_eq!(list("2-8, off,"), ["2-8", "off"]);
    }

    #[test]
    fn exact_rounding_needs_bits() {
        let exact = |text: &str| RoundingMethod::Exact.apply(rounding(text).unwrap());
        assert_eq!(exact("4"), Ok(Rounding::Exact(4)));
        assert_eq!(exact("off"), Ok(Rounding::Off));
        assert!(exact("full").is_err());
        assert_eq!(RoundingMethod::Approximate.apply(Rounding::Full), Ok(Rounding::Full));
    }

    #[test]
    fn probabilities_are_decimal_or_powers_of_two() {
        assert_eq!(probability("2^-40"), Ok(2f64.powi(-40)));
        assert_eq!(probability("0.05"), Ok(0.05));
        assert_eq!([log2_noise("2^-8.5"), log2_noise("0.25")], [Ok(-8.5), Ok(-2.0)]);
        assert!(log2_noise("1").is_err() && log2_noise("2^-50").is_err() && log2_noise("-9").is_err());
        assert!(probability("1").is_err() && probability("2^3").is_err() && probability("no").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!([bytes("2GiB"), bytes("1.5 KiB"), bytes("12"), bytes("0")], [Ok(2 << 30), Ok(1536), Ok(12), Ok(0)]);
        assert!(bytes("GiB").is_err() && bytes("-1").is_err() && bytes("2TB").is_err() && bytes("1e300").is_err());
    }

    #[test]
    fn sweeps_expand_lists_and_ranges() {
        assert_eq!(expand("2-4,6"), ["2", "3", "4", "6"]);
        assert_eq!(expand("2^-40,0.05"), ["2^-40", "0.05"]);
    }
}
