//! Links of a map that are nothing, that have a plainer name, or that are one with their neighbour.

use fhe_ir::Func;

use crate::pass::PassCx;

/// A chain with the same meaning and no more links.
pub(super) fn simplify(chain: Vec<Func>, cx: &mut PassCx<'_>) -> Vec<Func> {
    let mut simple: Vec<Func> = vec![];
    for mut link in chain {
        if let Some(plainer) = plainer(&link)
            && cx.rewrite("links renamed")
        {
            link = plainer;
        }
        if is_identity(&link) && cx.rewrite("links dropped") {
            continue;
        }
        let joined = simple.last().and_then(|last| joined(last, &link));
        match joined {
            Some(one) if cx.rewrite("links joined") => {
                simple.pop();
                simple.push(one);
            }
            _ => simple.push(link),
        }
    }
    simple
}

/// The same function under the name that later passes look for.
fn plainer(link: &Func) -> Option<Func> {
    match link {
        // max(x, 0)
        Func::Clip(lo, hi) if *lo == 0.0 && *hi == f32::INFINITY => Some(Func::Relu),
        Func::LeakyRelu(slope) if *slope == 0.0 => Some(Func::Relu),
        _ => None,
    }
}

/// Whether the link gives what it gets.
fn is_identity(link: &Func) -> bool {
    match link {
        Func::Clip(lo, hi) => *lo == f32::NEG_INFINITY && *hi == f32::INFINITY,
        Func::LeakyRelu(slope) => *slope == 1.0,
        _ => false,
    }
}

/// One link for two, when there is one.
fn joined(first: &Func, second: &Func) -> Option<Func> {
    match (first, second) {
        (Func::Relu, Func::Relu | Func::Abs) => Some(Func::Relu),
        (Func::Abs, Func::Relu | Func::Abs) => Some(Func::Abs),
        // Clips that overlap: the later ends win only where they are tighter.
        (Func::Clip(a, b), Func::Clip(c, d)) if a <= d && c <= b => Some(Func::Clip(a.max(*c), b.min(*d))),
        (Func::Relu, Func::Clip(c, d)) if *d >= 0.0 => Some(Func::Clip(c.max(0.0), *d)),
        (Func::Clip(a, b), Func::Relu) if *b >= 0.0 => Some(Func::Clip(a.max(0.0), *b)),
        // Their values are never negative.
        (Func::Sigmoid | Func::Exp | Func::Sqrt, Func::Relu | Func::Abs) => Some(first.clone()),
        (Func::Sign, Func::Sign) => Some(Func::Sign),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of links that becomes one means the same at many points, the ends and infinities included.
    #[test]
    fn joined_and_renamed_links_mean_the_same() {
        let inf = f32::INFINITY;
        let ends = [-inf, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, inf];
        let mut links = vec![Func::Relu, Func::Abs, Func::Sign, Func::Sigmoid, Func::Exp, Func::Sqrt, Func::Tanh];
        links.extend([0.0, 0.1, 1.0].map(Func::LeakyRelu));
        for lo in ends {
            links.extend(ends.iter().filter(|hi| lo < **hi).map(|hi| Func::Clip(lo, *hi)));
        }
        let points: Vec<f64> = (-40..=40).map(|i| f64::from(i) / 8.0).collect();
        let apply = |f: &Func, x: f64| f.apply(x, |_| 0.0);
        let mut pairs = 0;
        for first in &links {
            if let Some(renamed) = plainer(first) {
                assert!(points.iter().all(|&x| apply(first, x) == apply(&renamed, x)), "{first:?}");
            }
            if is_identity(first) {
                assert!(points.iter().all(|&x| apply(first, x) == x), "{first:?}");
            }
            for second in &links {
                let Some(one) = joined(first, second) else { continue };
                pairs += 1;
                for &x in &points {
                    assert_eq!(apply(second, apply(first, x)), apply(&one, x), "{first:?} | {second:?} at {x}");
                }
            }
        }
        assert!(pairs > 100, "{pairs}");
    }
}
