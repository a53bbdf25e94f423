//! Soundness: every rewrite is true on every integer, by enumeration.

use fhe_ir::{Graph as Network, Phase};

use super::*;

/// Intervals small enough to try every integer.
const RANGES: [(i64, i64); 6] = [(-4, 4), (0, 7), (-8, -1), (3, 3), (0, 1), (-2, 5)];

fn pool() -> Pool {
    Pool::new(&Network::new("rules", Phase::Ranged), None)
}

fn operand(pool: &mut Pool, (lo, hi): (i64, i64), scale: f32) -> Tensor {
    let scale = pool.intern_scale(&[scale]);
    Tensor { shape: vec![1, 1], ranges: Some(vec![Interval { lo, hi }]), scale }
}

/// Chains of one and two links, into results of 1 to 3 bits: among them identities, constants, steps and bumps.
fn functions(pool: &mut Pool) -> Vec<Function> {
    let half = pool.reals("half", &[0.5]);
    let third = pool.reals("third", &[-1.0 / 3.0]);
    let links = [
        vec![],
        vec![Func::Relu],
        vec![Func::Abs],
        vec![Func::Sign],
        vec![Func::Tanh],
        vec![Func::LeakyRelu(0.1)],
        vec![Func::Clip(-0.3, 0.4)],
        vec![Func::Mul(half), Func::Add(third)],
        vec![Func::Mul(third), Func::Sigmoid],
        vec![Func::Quant { scale: 0.3, to: Interval { lo: -1, hi: 2 } }, Func::Abs],
    ];
    let mut functions = vec![];
    for chain in links {
        for shift in [-3, 0, 2] {
            for (to, scale) in [((0, 1), 0.5), ((-2, 1), 0.1), ((-4, 3), 0.25), ((0, 7), 0.07)] {
                let to = Interval { lo: to.0, hi: to.1 };
                let scale = pool.intern_scale(&[scale]);
                functions.push(Function { shift: vec![shift], chain: chain.clone(), to, scale, made_by: vec![] });
            }
        }
    }
    functions
}

#[test]
fn add_into_map_is_true_on_every_integer() {
    let mut pool = pool();
    for f in functions(&mut pool) {
        for (range, scale) in RANGES.iter().zip([0.1, 0.25, 1.0, 3.5, 0.013, 1.0 / 3.0]) {
            let x = operand(&mut pool, *range, scale);
            for c in -5..=5 {
                let new = add_into_map(&f, &[c]).expect("small integers");
                for i in range.0..=range.1 {
                    assert_eq!(
                        pool.apply(&new, x.scale, 0, i),
                        pool.apply(&f, x.scale, 0, i + c),
                        "{f:?} + {c} at {i}"
                    );
                }
            }
        }
    }
    assert_eq!(add_into_map(&functions(&mut pool)[0], &[Interval::LIMIT]), None);
}

#[test]
fn neg_into_map_is_true_on_every_integer() {
    let mut pool = pool();
    let minus_one = Func::Mul(pool.reals("minus-one", &[-1.0]));
    for f in functions(&mut pool) {
        for (range, scale) in RANGES.iter().zip([0.1, 0.25, 1.0, 3.5, 0.013, 1.0 / 3.0]) {
            let x = operand(&mut pool, *range, scale);
            let new = neg_into_map(&f, minus_one.clone()).expect("small integers");
            for i in range.0..=range.1 {
                assert_eq!(pool.apply(&new, x.scale, 0, i), pool.apply(&f, x.scale, 0, -i), "{f:?} at {i}");
            }
        }
    }
}

#[test]
fn mul_into_map_is_true_on_every_integer_or_does_not_apply() {
    let mut pool = pool();
    let mut applied = 0;
    for f in functions(&mut pool) {
        for (range, scale) in RANGES.iter().zip([0.1, 0.25, 1.0, 3.5, 0.013, 1.0 / 3.0]) {
            let x = operand(&mut pool, *range, scale);
            let from = pool.intern_scale(&[0.2]);
            for c in -3..=3 {
                let Some(new) = mul_into_map(&mut pool, &f, &x, &[c], from) else { continue };
                applied += 1;
                for i in range.0..=range.1 {
                    assert_eq!(pool.apply(&new, x.scale, 0, i), pool.apply(&f, from, 0, c * i), "{f:?} · {c} at {i}");
                }
            }
        }
    }
    assert!(applied > 1000, "{applied}");
    // A factor of zero has no inverse; an unknown or wide interval cannot be checked.
    let f = functions(&mut pool).remove(0);
    let wide = operand(&mut pool, (0, 1 << 17), 0.1);
    assert_eq!(mul_into_map(&mut pool, &f, &wide, &[1], wide.scale), None);
    let narrow = operand(&mut pool, (0, 3), 0.1);
    assert_eq!(mul_into_map(&mut pool, &f, &narrow, &[0], narrow.scale), None);
}

#[test]
fn map_of_map_is_true_on_every_integer_or_does_not_apply() {
    let mut pool = pool();
    let functions = functions(&mut pool);
    let mut applied = 0;
    for f in &functions {
        for g in functions.iter().step_by(5) {
            let Some(new) = map_of_map(&pool, f, g) else { continue };
            applied += 1;
            let x = operand(&mut pool, (-4, 4), 0.3);
            for i in -4..=4 {
                let inner = pool.apply(f, x.scale, 0, i);
                assert_eq!(pool.apply(&new, x.scale, 0, i), pool.apply(g, f.scale, 0, inner), "{f:?}, {g:?} at {i}");
            }
        }
    }
    assert!(applied > 500, "{applied}");
    let two = pool.intern_scale(&[0.1, 0.2]);
    assert_eq!(map_of_map(&pool, &Function { scale: two, ..functions[1].clone() }, &functions[1]), None);
}

/// All tables of `bits` bits in and out.
fn tables(bits: u32) -> impl Iterator<Item = Vec<i64>> {
    let n = 1i64 << bits;
    (0..n.pow(n as u32)).map(move |code| (0..n).map(|i| code / n.pow(i as u32) % n).collect())
}

#[test]
fn identity_and_constant_hold_for_exactly_those_tables() {
    for bits in 1..=3 {
        let range = Interval { lo: 0, hi: (1 << bits) - 1 };
        let (mut identities, mut constants) = (0, 0);
        for entries in tables(bits) {
            let table = [(0, range, entries.clone())];
            if is_identity(&table) {
                identities += 1;
                assert!(entries.iter().enumerate().all(|(i, &e)| i as i64 == e));
            }
            if let Some(k) = constants_of(&table) {
                constants += 1;
                assert!(entries.iter().all(|&e| e == k[0]));
            }
        }
        assert_eq!((identities, constants), (1, 1 << bits));
    }
}

#[test]
fn tables_enumerate_the_interval_of_each_channel() {
    let mut pool = pool();
    let to = Interval { lo: -9, hi: 9 };
    let scale = pool.intern_scale(&[1.0]);
    let f = Function { shift: vec![1, -1], chain: vec![], to, scale, made_by: vec![] };
    let ranges = Some(vec![Interval { lo: 0, hi: 2 }, Interval::point(4)]);
    let x = Tensor { shape: vec![1, 2], ranges, scale };
    let rows = pool.table(&f, &x, 4).expect("four integers in all");
    assert_eq!(rows, [(0, Interval { lo: 0, hi: 2 }, vec![1, 2, 3]), (1, Interval::point(4), vec![3])]);
    assert_eq!(pool.table(&f, &x, 3), None);
}
