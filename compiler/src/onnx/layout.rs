//! Shape arithmetic of ONNX's layout operators, shared by values and constants.

use super::limits::{MAX_NUMBERS, MAX_RANK};

/// Number of elements, unless it overflows; an extent above all limits is none beside an extent of 0 either.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d).filter(|_| *d <= MAX_NUMBERS))
}

/// The shape that two shapes broadcast to, as numpy does it.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (extent(a, i), extent(b, i)) {
            (m, n) if m == n || n == 1 => Some(m),
            (1, n) => Some(n),
            _ => None,
        })
        .collect()
}

/// An axis counted from the front.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    // Ranks are at most MAX_RANK.
    let from_front = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| format!("axis {axis} is not one of {rank} axes"))
}

/// The shape that `Reshape` gives: `0` copies an extent (unless `zeros` is set), `-1` takes the rest.
pub(super) fn reshaped(from: &[usize], target: &[i64], zeros: bool) -> Result<Vec<usize>, String> {
    let refuse = || format!("{from:?} cannot be reshaped to {target:?}");
    if target.len() > MAX_RANK {
        return Err(refuse());
    }
    let mut rest = None;
    let mut out = vec![];
    for (i, &t) in target.iter().enumerate() {
        out.push(match t {
            -1 if rest.is_none() => {
                rest = Some(i);
                1
            }
            0 if !zeros => *from.get(i).ok_or_else(refuse)?,
            t => usize::try_from(t).map_err(|_| refuse())?,
        });
    }
    let (have, want) = (count(from).ok_or_else(refuse)?, count(&out).ok_or_else(refuse)?);
    if let Some(i) = rest {
        if want == 0 || have % want != 0 {
            return Err(refuse());
        }
        out[i] = have / want;
    } else if have != want {
        return Err(refuse());
    }
    Ok(out)
}

/// The shape without the given axes of extent 1; without all of them (but the first) when none are given.
pub(super) fn squeezed(from: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>, String> {
    let mut drop = vec![false; from.len()];
    match axes {
        Some(axes) => {
            for &a in axes {
                let a = axis(a, from.len())?;
                if from[a] != 1 {
                    return Err(format!("axis {a} of {from:?} has more than one element"));
                }
                drop[a] = true;
            }
        }
        None => drop.iter_mut().zip(from).skip(1).for_each(|(d, &extent)| *d = extent == 1),
    }
    Ok(from.iter().zip(&drop).filter(|(_, d)| !**d).map(|(&e, _)| e).collect())
}

/// The shape with axes of extent 1 at the given places of the result.
pub(super) fn unsqueezed(from: &[usize], axes: &[i64]) -> Result<Vec<usize>, String> {
    let rank = from.len() + axes.len();
    if rank > MAX_RANK {
        return Err(format!("{rank} axes, the limit is {MAX_RANK}"));
    }
    let mut new = vec![false; rank];
    for &a in axes {
        let a = axis(a, rank)?;
        if std::mem::replace(&mut new[a], true) {
            return Err(format!("axis {a} is given twice"));
        }
    }
    let mut old = from.iter().copied();
    // As many places are not new as `from` has extents.
    Ok(new.iter().map(|&n| if n { 1 } else { old.next().unwrap_or(1) }).collect())
}

/// What `Slice` takes of one axis: indices `start`, `start + step`, … (`len` of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// First index.
    pub(super) start: usize,
    /// Distance, not 0; negative ones go backwards.
    pub(super) step: i64,
    /// Number of elements.
    pub(super) len: usize,
}

/// `Slice` on every axis of `shape`.
pub(super) fn sliced(
    shape: &[usize],
    starts: &[i64],
    ends: &[i64],
    axes: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> Result<Vec<Taken>, String> {
    let every: Vec<i64> = (0..starts.len() as i64).collect();
    let ones = vec![1; starts.len()];
    let (axes, steps) = (axes.unwrap_or(&every), steps.unwrap_or(&ones));
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("it has not as many starts, ends, axes and steps".into());
    }
    let mut out: Vec<Taken> = shape.iter().map(|&len| Taken { start: 0, step: 1, len }).collect();
    let mut seen = vec![false; shape.len()];
    for (i, &a) in axes.iter().enumerate() {
        let a = axis(a, shape.len())?;
        if std::mem::replace(&mut seen[a], true) {
            return Err(format!("axis {a} is given twice"));
        }
        out[a] = taken(shape[a], starts[i], ends[i], steps[i])?;
    }
    Ok(out)
}

fn taken(extent: usize, start: i64, end: i64, step: i64) -> Result<Taken, String> {
    let n = i64::try_from(extent).map_err(|_| "an extent is above 2^63")?;
    let from_front = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (lo, hi) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let (start, end) = (from_front(start).clamp(lo, hi), from_front(end).clamp(lo, hi));
    let distance = if step > 0 { end - start } else { start - end };
    if step == 0 {
        return Err("its step is 0".into());
    }
    let len = u64::try_from(distance).map_or(0, |d| d.div_ceil(step.unsigned_abs()));
    // Both are at most the extent; a start of -1 comes with no elements.
    Ok(Taken { start: usize::try_from(start).unwrap_or(0), step, len: len as usize })
}

/// Pads that `auto_pad=SAME` stands for on one axis: `ceil(extent/stride)` places, the odd one behind or in front.
pub(super) fn same_pads(extent: usize, reach: usize, stride: usize, upper: bool) -> Option<(usize, usize)> {
    let places = extent.div_ceil(stride.max(1));
    let total = (places.checked_sub(1)?.checked_mul(stride)?.checked_add(reach)?).saturating_sub(extent);
    let (small, large) = (total / 2, total - total / 2);
    Some(if upper { (small, large) } else { (large, small) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_copies_and_infers() {
        assert_eq!(reshaped(&[1, 16, 5, 5], &[0, -1], false), Ok(vec![1, 400]));
        assert_eq!(reshaped(&[1, 6], &[1, 2, 3], false), Ok(vec![1, 2, 3]));
        assert!(reshaped(&[1, 6], &[-1, -1], false).is_err());
        assert!(reshaped(&[1, 6], &[4, -1], false).is_err());
        assert!(reshaped(&[1, 6], &[1, 7], false).is_err());
        assert!(reshaped(&[1, 6], &[i64::MAX, i64::MAX], false).is_err());
    }

    #[test]
    fn slice_clamps_as_numpy_does() {
        assert_eq!(taken(10, 0, i64::MAX, 2), Ok(Taken { start: 0, step: 2, len: 5 }));
        assert_eq!(taken(10, -3, 10, 1), Ok(Taken { start: 7, step: 1, len: 3 }));
        assert_eq!(taken(4, -1, i64::MIN, -1), Ok(Taken { start: 3, step: -1, len: 4 }));
        assert_eq!(taken(4, 3, 1, 1), Ok(Taken { start: 3, step: 1, len: 0 }));
        assert_eq!(taken(4, i64::MIN, i64::MAX, i64::MAX), Ok(Taken { start: 0, step: i64::MAX, len: 1 }));
        assert!(taken(4, 0, 4, 0).is_err());
    }

    #[test]
    fn squeeze_and_unsqueeze_are_inverse() {
        assert_eq!(squeezed(&[1, 8, 1, 1], Some(&[2, -1])), Ok(vec![1, 8]));
        assert_eq!(squeezed(&[1, 8, 1, 1], None), Ok(vec![1, 8]));
        assert!(squeezed(&[1, 8], Some(&[1])).is_err());
        assert_eq!(unsqueezed(&[1, 8], &[2, -1]), Ok(vec![1, 8, 1, 1]));
        assert!(unsqueezed(&[1, 8], &[2, 2]).is_err());
        assert!(unsqueezed(&[1, 8], &[5]).is_err());
    }

    #[test]
    fn same_padding_puts_the_odd_one_where_it_is_told() {
        // 5 elements, window 3, stride 2: 3 places need (3 - 1)·2 + 3 = 7.
        assert_eq!(same_pads(5, 3, 2, true), Some((1, 1)));
        assert_eq!(same_pads(6, 3, 2, true), Some((0, 1)));
        assert_eq!(same_pads(6, 3, 2, false), Some((1, 0)));
        assert_eq!(same_pads(4, 1, 2, true), Some((0, 0)));
    }
}
