//! The verifier's rules of keys: what each op wants its operands and its result to be under.

use crate::graph::{Cipher, Graph, Key, Value};
use crate::keys::{Planned, SecretKey};
use crate::op::Op;

/// Sets of one circuit lie on one curve: returns the number of the first that does not, and what is wrong.
pub(super) fn curves(graph: &Graph) -> Result<(), (usize, String)> {
    let Some(first) = graph.params.first() else { return Ok(()) };
    match graph.params.iter().position(|p| p.curve != first.curve) {
        Some(other) => {
            let got = graph.params[other].curve;
            Err((other, format!("the security is {got}, that of !p0 is {}: a circuit has one curve", first.curve)))
        }
        None => Ok(()),
    }
}

/// Keys and torus steps of the operands and the result of an op.
pub(super) fn keys(graph: &Graph, value: &Value, own: &Cipher) -> Result<(), String> {
    let keyword = value.op.keyword();
    let key = graph.secret_key(own);
    let switches = matches!(value.op, Op::Keyswitch { .. });
    if own.key != Key::Big && !switches {
        return Err(format!("the result of `{keyword}` is under the small key {key}, allowed: a big key"));
    }
    if let Op::Keyswitch { ks, .. } = &value.op {
        ks.check("keyswitch")?;
    }
    for operand in value.op.operands() {
        let operand = graph.value(operand);
        // An operand that is not encrypted was refused before its user.
        let Some(cipher) = &operand.cipher else { continue };
        let got = graph.secret_key(cipher);
        let refuse = |allowed: String| {
            Err(format!("`{keyword}` reads %{} under the key {got}, allowed: {allowed}", operand.name))
        };
        if matches!(value.op, Op::Pbs { .. }) {
            let small = graph.param(own.params).secret_key(Key::Small);
            if got != small {
                return refuse(format!("the small key {small} of !p{}", own.params.index()));
            }
            continue;
        }
        match (switches, got) {
            (_, SecretKey::Lwe { .. }) => return refuse("a big key".into()),
            (true, _) if got == key => return refuse("another than the result's".into()),
            (false, _) if got != key => return refuse(format!("the key {key} of the result")),
            _ => {}
        }
        if cipher.span != own.span {
            return Err(format!(
                "%{} has {} integers on the half torus, the result of `{keyword}` {}: the torus step stays",
                operand.name, cipher.span, own.span
            ));
        }
    }
    Ok(())
}

/// What is planned for a value.
pub(super) fn planned(graph: &Graph, planned: &Planned) -> Result<(), String> {
    let Some(table) = planned.table else { return Ok(()) };
    table.ks.check("keyswitch")?;
    let big = |set| graph.param(set).secret_key(Key::Big);
    let (own, home) = (big(table.set), big(planned.home));
    match table.conversion {
        Some(ks) if own != home => ks.check("keyswitch"),
        None if own == home => Ok(()),
        Some(_) => Err(format!("a conversion is planned, and the key {own} of its set is that of its home")),
        None => Err(format!("no conversion is planned from the key {own} of its set to {home}, that of its home")),
    }
}
