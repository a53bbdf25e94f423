//! `fuse-batchnorm`: a batch-norm disappears in the layer in front of it, or becomes a factor and a summand.
//!
//! In inference a batch-norm is `x·f + s` with `f = scale/√(var + ε)` and `s = bias − mean·f`. Arithmetic is f64,
//! the new weights are f32. The bias ends up as one `add-clear` on the layer.

use fhe_ir::{Graph, Id, Op, Phase, Value};

use crate::layers::{NotBehind, behind};
use crate::pass::{Pass, PassCx, PassError};
use crate::peephole::{Peephole, zip};

/// See the module.
pub struct FuseBatchnorm;

impl Pass for FuseBatchnorm {
    fn name(&self) -> &'static str {
        "fuse-batchnorm"
    }

    fn summary(&self) -> &'static str {
        "folds batch-norms into the weights and bias in front of them"
    }

    fn takes(&self) -> (Phase, Phase) {
        (Phase::Float, Phase::Float)
    }

    fn run(&self, graph: Graph, cx: &mut PassCx<'_>) -> Result<Graph, PassError> {
        let mut p = Peephole::new(&graph);
        for (id, value) in graph.iter() {
            if !matches!(value.op, Op::BatchNorm { .. }) || !fuse(&mut p, cx, id) {
                p.keep(id);
            }
        }
        Ok(p.finish())
    }
}

/// Rewrites one batch-norm; `false` when the budget forbids it.
fn fuse(p: &mut Peephole<'_>, cx: &mut PassCx<'_>, id: Id<Value>) -> bool {
    let Op::BatchNorm { x, scale, bias, mean, var, epsilon } = p.remapped(id) else { return false };
    let deviation = p.entries(var).into_iter().map(|v| (v + f64::from(epsilon)).sqrt()).collect::<Vec<_>>();
    let factor = zip(&p.entries(scale), &deviation, |s, d| s / d);
    let shift = zip(&p.entries(mean), &factor, |m, f| m * f);
    let summand = zip(&p.entries(bias), &shift, |b, s| b - s);

    let old = p.rebuild.old;
    let (name, shape) = (old.value(id).name.as_str(), old.value(id).shape.as_slice());
    let bias_name = format!("{name}.bias");
    match behind(p, x) {
        Ok(layer) => {
            if !cx.rewrite("folded into a layer") {
                return false;
            }
            // batch-norm(w·x + b) == (f·w)·x + (f·b + s)
            let (n, rest) = layer.scale(p, &factor, &summand);
            if rest.iter().all(|&e| e == 0.0) {
                p.absorb(id, n);
            } else {
                p.absorb_origins_of(id, n);
                let c = p.constant(&bias_name, &rest);
                p.emit(id, Op::AddClear { x: n, c });
            }
        }
        Err(why) => {
            if !cx.rewrite("made a factor and a summand") {
                return false;
            }
            let reason = match why {
                NotBehind::NoLayer => "what makes its input has no weights",
                NotBehind::ReadTwice => "its input is read twice",
                NotBehind::Exact => "they are exact integers",
            };
            cx.remark(format!("{} is not folded into weights: {reason}", old.place(id)));
            // batch-norm(x) == x·f + s
            let f = p.constant(&format!("{name}.factor"), &factor);
            let c = p.constant(&bias_name, &summand);
            let x = p.push(id, &format!("{name}.scaled"), shape, Op::MulClear { x, c: f });
            p.emit(id, Op::AddClear { x, c });
        }
    }
    true
}
