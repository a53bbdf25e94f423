//! What a circuit would cost under other parameters than its own.

use fhe_ir::cost::MachineCost;
use fhe_ir::{Graph, Op, ParamSet};
use fhe_passes::regions::Regions;

/// Operations of one row of a circuit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Bootstraps.
    pub lookups: u64,
    /// Keyswitches.
    pub keyswitches: u64,
    /// Linear work in products of a ciphertext by a clear weight ([`MachineCost::linear_products`]).
    pub linear_products: f64,
}

impl Work {
    /// Counts what [`MachineCost::latency`] prices.
    pub fn of(circuit: &Graph, cost: &MachineCost) -> Self {
        let mut work = Self { lookups: 0, keyswitches: 0, linear_products: 0.0 };
        for value in circuit.values.iter().filter(|v| v.cipher.is_some()) {
            match value.op {
                Op::Input { .. } => {}
                Op::Keyswitch { .. } => work.keyswitches += value.elements() as u64,
                Op::Pbs { .. } => work.lookups += value.elements() as u64,
                _ => work.linear_products += cost.linear_products(circuit, value),
            }
        }
        work
    }

    /// Nanoseconds of one thread when everything runs under one set.
    pub fn price_ns(&self, params: &ParamSet, cost: &MachineCost) -> f64 {
        self.lookups as f64 * cost.pbs_ns(params)
            + self.keyswitches as f64 * cost.ks_ns(params)
            + self.linear_products * cost.linear_ns(params)
    }
}

/// log2 of the largest norm of weights, from bootstraps or from inputs, in front of a table; 0 without tables.
pub fn log2_norm(circuit: &Graph) -> f64 {
    let regions = Regions::of(circuit);
    let tables = regions.readings.iter().filter(|r| r.table.is_some()).map(|r| regions.constraint(r));
    let largest = tables.map(|c| c.norm2_pbs.max(c.norm2_input)).fold(1.0, f64::max);
    0.5 * largest.log2()
}

#[cfg(test)]
mod tests {
    use fhe_ir::params::{Decomposition, SecurityCurve};
    use fhe_ir::text::{Sidecar, parse};
    use fhe_passes::lower_circuit::LowerCircuit;
    use fhe_passes::params::ErrorTarget;
    use fhe_passes::select_params::SelectParams;
    use fhe_passes::{Flow, Options, PassCx, run_pipeline};

    use super::*;

    /// Two tables read one sum of four results, each behind a weight of 2: a norm of 4.
    const TABLED: &str = "eir 2 tabled
graph two
%x: [0, 3][1,4] = input ; scale=1
%a: [0, 3][1,4] = lut %x, @turn, domain=[0, 3], read=exact
%sum: [0, 24][1,1] = dot %a, @w
%b: [0, 3][1,1] = lut %sum, @long, domain=[0, 24], read=exact
%c: [0, 1][1,1] = lut %sum, @half, domain=[0, 24], read=exact
output %b \"b\", read=exact, domain=[0, 3]
output %c \"c\", read=exact, domain=[0, 1]
table @turn: [1,4] = 2 0 3 1
table @long: [1,25] = 0*8 1*8 2*8 3
table @half: [1,25] = 0*12 1*13
const @w: i[1,4] = 2*4
";

    fn circuit(options: &Options) -> Graph {
        let tabled = parse(TABLED, &Sidecar::new()).unwrap();
        let mut cx = PassCx::new(options, &[]);
        run_pipeline(tabled, &[&SelectParams, &LowerCircuit], &mut cx, |_| Flow::Continue).unwrap().0
    }

    #[test]
    fn a_circuit_under_its_own_parameters_costs_what_is_predicted() {
        let options = Options { error: ErrorTarget::PerTable(1e-3), ..Options::default() };
        let (circuit, cost) = (circuit(&options), options.machine.cost);
        let work = Work::of(&circuit, &cost);
        // Tables that read one value share its keyswitch.
        assert_eq!((work.lookups, work.keyswitches), (6, 5));
        let predicted = cost.latency(&circuit, 1, 1).total_ns();
        assert!((work.price_ns(&circuit.params[0], &cost) / predicted - 1.0).abs() < 1e-12);
        assert_eq!(log2_norm(&circuit), 2.0);
    }

    #[test]
    fn other_parameters_cost_what_the_machine_says() {
        let params = ParamSet {
            curve: SecurityCurve::Bits128,
            lwe_dimension: 836,
            glwe_dimension: 1,
            log2_polynomial_size: 11,
            pbs: Decomposition { base_log: 15, level: 2 },
            ks: Decomposition { base_log: 1, level: 17 },
        };
        let work = Work { lookups: 10, keyswitches: 4, linear_products: 100.0 };
        // Six polynomials of 2048 a CMUX, and 2²·2 products of each of their coefficients; nothing is streamed.
        let cmux = 6.0 * 2048.0 * (0.094 * 11.0 + 0.28) + 0.16 * 8.0 * 2048.0;
        let wanted = 10.0 * 836.0 * cmux + 4.0 * 2048.0 * 17.0 * 837.0 * 0.067 + 100.0 * 2049.0 * 0.05;
        assert!((work.price_ns(&params, &MachineCost::BACKEND) / wanted - 1.0).abs() < 1e-9);
    }
}
