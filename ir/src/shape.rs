//! Shapes: what an op's result looks like.

use crate::graph::Graph;
use crate::op::Op;
use crate::verify::MAX_ELEMENTS;

/// The shape of the result of `op`, whose operands and constants are in `graph`.
///
/// `stated` is the shape the value carries; ops whose result is not decided by their fields (`input`, `reshape`,
/// `slice`) take it from there after checking that it can be. Errors say in one phrase what does not fit.
pub fn infer(graph: &Graph, op: &Op, stated: &[usize]) -> Result<Vec<usize>, String> {
    let shape = |id: crate::id::Id<crate::graph::Value>| graph.value(id).shape.as_slice();
    let per_channel = |id: crate::id::Id<crate::graph::Const>, x: &[usize]| {
        let c = graph.constant(id);
        let channels = x.get(1).copied().unwrap_or(1);
        match c.data.shape() {
            [n] if *n == 1 || *n == channels => Ok(()),
            other => Err(format!("@{} has shape {other:?}, not [1] or [{channels}]", c.name)),
        }
    };
    match op {
        Op::Input { .. } => match stated {
            [1, rest @ ..] if !rest.is_empty() && rest.iter().all(|&d| d > 0) => {
                for c in op.constants() {
                    per_channel(c, stated)?;
                }
                Ok(stated.to_vec())
            }
            _ => Err(format!("an input has shape [1, ...] without empty axes, not {stated:?}")),
        },
        Op::Dot { x, w } => match (shape(*x), graph.constant(*w).data.shape()) {
            ([1, i], [o, wi]) if i == wi => Ok(vec![1, *o]),
            (x, w) => Err(format!("dot of {x:?} with weights {w:?}: wants [1, in] and [out, in]")),
        },
        Op::Conv { x, w, geometry } => match (shape(*x), graph.constant(*w).data.shape()) {
            (&[1, c, h, wd], &[o, ci, kh, kw])
                if geometry.groups > 0
                    && ci.checked_mul(geometry.groups) == Some(c)
                    && o % geometry.groups == 0
                    && kh > 0
                    && kw > 0 =>
            {
                let axis = |i: usize, extent: usize, kernel: usize| {
                    let reach = geometry.dilations[i].checked_mul(kernel - 1).and_then(|r| r.checked_add(1));
                    window(extent, reach, geometry.pads[i], geometry.pads[i + 2], geometry.strides[i])
                };
                if geometry.dilations.contains(&0) {
                    return Err("a dilation is 0".into());
                }
                Ok(vec![1, o, axis(0, h, kh)?, axis(1, wd, kw)?])
            }
            (x, w) => Err(format!(
                "conv of {x:?} with weights {w:?} in {} groups: wants [1, in, h, w] and [out, in/groups, kh, kw]",
                geometry.groups
            )),
        },
        Op::SumPool { x, geometry } | Op::AvgPool { x, geometry } | Op::MaxPool { x, geometry } => match *shape(*x) {
            [1, c, h, w] => {
                let area = geometry.kernel[0].checked_mul(geometry.kernel[1]);
                if area.is_none_or(|n| n == 0 || n > MAX_ELEMENTS) {
                    return Err("the window is empty or has more than 2^28 elements".into());
                }
                let padding = |i: usize| geometry.pads[i].max(geometry.pads[i + 2]) >= geometry.kernel[i];
                if matches!(op, Op::MaxPool { .. }) && (padding(0) || padding(1)) {
                    return Err("a window can lie in the padding alone".into());
                }
                let axis = |i: usize, extent: usize| {
                    window(
                        extent,
                        Some(geometry.kernel[i]),
                        geometry.pads[i],
                        geometry.pads[i + 2],
                        geometry.strides[i],
                    )
                };
                Ok(vec![1, c, axis(0, h)?, axis(1, w)?])
            }
            ref x => Err(format!("pooling of {x:?}: wants [1, channels, h, w]")),
        },
        Op::BatchNorm { x, scale, bias, mean, var, .. } => {
            for c in [scale, bias, mean, var] {
                per_channel(*c, shape(*x))?;
            }
            Ok(shape(*x).to_vec())
        }
        Op::AddClear { x, c } | Op::MulClear { x, c } => {
            per_channel(*c, shape(*x))?;
            Ok(shape(*x).to_vec())
        }
        Op::Map { x, resolution, .. } => {
            for c in op.constants() {
                per_channel(c, shape(*x))?;
            }
            let channels = shape(*x).get(1).copied().unwrap_or(1);
            if let Some((domain, _)) = resolution
                && domain.lo.len() != 1
                && domain.lo.len() != channels
            {
                return Err(format!("{} domains for {channels} channels", domain.lo.len()));
            }
            Ok(shape(*x).to_vec())
        }
        Op::Add { a, b } | Op::Sub { a, b } | Op::Mul { a, b } => {
            if shape(*a) == shape(*b) {
                Ok(shape(*a).to_vec())
            } else {
                Err(format!("{:?} and {:?} are not the same shape", shape(*a), shape(*b)))
            }
        }
        Op::Neg { x } | Op::Keyswitch { x, .. } => Ok(shape(*x).to_vec()),
        Op::Concat { xs, axis } => {
            let first = xs.first().map_or(&[][..], |x| shape(*x));
            let mut out = first.to_vec();
            if *axis == 0 || *axis >= first.len() {
                return Err(format!("axis {axis} of {first:?} cannot be joined along"));
            }
            for x in &xs[1..] {
                let x = shape(*x);
                let fits = x.len() == first.len() && (0..x.len()).all(|i| i == *axis || x[i] == first[i]);
                out[*axis] = match fits.then(|| out[*axis].checked_add(x[*axis])) {
                    Some(Some(sum)) => sum,
                    _ => return Err(format!("{first:?} and {x:?} cannot be joined along axis {axis}")),
                };
            }
            Ok(out)
        }
        Op::Gather { x, axis, indices } => {
            let mut out = shape(*x).to_vec();
            let extent = out.get(*axis).copied().unwrap_or(0);
            if *axis == 0 || indices.is_empty() || indices.iter().any(|&i| i >= extent) {
                return Err(format!("{} indices do not all lie in axis {axis} of {out:?}", indices.len()));
            }
            out[*axis] = indices.len();
            Ok(out)
        }
        Op::Lut { x, table, domain, .. } | Op::Pbs { x, table, domain, .. } => {
            let channels = shape(*x).get(1).copied().unwrap_or(1);
            let rows = graph.table(*table).entries.nrows();
            for (what, n) in [("rows", rows), ("domains", domain.lo.len())] {
                if n != 1 && n != channels {
                    return Err(format!("table @{} has {n} {what} for {channels} channels", graph.table(*table).name));
                }
            }
            Ok(shape(*x).to_vec())
        }
        Op::Slice { x, starts, steps } => {
            let x = shape(*x);
            if starts.len() != x.len() || steps.len() != x.len() || stated.len() != x.len() {
                return Err(format!("slice of {x:?} wants {} starts, steps and extents", x.len()));
            }
            for axis in 0..x.len() {
                let last = stated[axis]
                    .checked_sub(1)
                    .and_then(|n| n.checked_mul(steps[axis]))
                    .and_then(|n| n.checked_add(starts[axis]));
                if steps[axis] == 0 || last.is_none_or(|l| l >= x[axis]) {
                    return Err(format!("slice takes {} elements of axis {axis} of {x:?}", stated[axis]));
                }
            }
            if starts[0] != 0 || stated[0] != 1 {
                return Err("slice cuts the batch axis".into());
            }
            Ok(stated.to_vec())
        }
        Op::Pad { x, before, after } => {
            let x = shape(*x);
            if before.len() != x.len() || after.len() != x.len() || before[0] != 0 || after[0] != 0 {
                return Err(format!("pad of {x:?} wants {} extents in front and behind, 0 on the batch axis", x.len()));
            }
            (0..x.len())
                .map(|i| x[i].checked_add(before[i]).and_then(|n| n.checked_add(after[i])))
                .collect::<Option<_>>()
                .ok_or_else(|| "pad is too large".into())
        }
        Op::Reshape { x } => {
            let count = |s: &[usize]| s.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            let batch = stated.len() >= 2 && stated[0] == 1;
            if batch && count(stated).is_some() && count(stated) == count(shape(*x)) {
                Ok(stated.to_vec())
            } else {
                Err(format!("{:?} cannot be reshaped to {stated:?}: wants [1, channels, ...]", shape(*x)))
            }
        }
        Op::Transpose { x, perm } => {
            let x = shape(*x);
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if sorted.iter().copied().eq(0..x.len()) && perm.first() == Some(&0) {
                Ok(perm.iter().map(|&i| x[i]).collect())
            } else {
                Err(format!("{perm:?} is not a permutation of the axes of {x:?} that keeps the batch in front"))
            }
        }
    }
}

/// Number of places of a window of `reach` elements over `extent` padded elements.
fn window(extent: usize, reach: Option<usize>, before: usize, after: usize, stride: usize) -> Result<usize, String> {
    let padded = extent.checked_add(before).and_then(|n| n.checked_add(after));
    match (padded, reach) {
        (Some(padded), Some(reach)) if stride > 0 && padded >= reach => Ok((padded - reach) / stride + 1),
        _ => Err(format!("a window of {reach:?} with stride {stride} does not fit into {extent} + {before} + {after}")),
    }
}
