//! Many mutants on some threads, with a watch on their time and memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::check::{Verdict, check};
use super::{Mutant, Mutator, memory};

/// Which mutants, and what each may take.
pub struct Plan {
    /// Seed of all mutants.
    pub seed: u64,
    /// First index.
    pub from: u64,
    /// Number of mutants.
    pub count: u64,
    /// Threads.
    pub threads: usize,
    /// Wall-clock limit of one mutant.
    pub time: Duration,
}

/// What the mutants did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Files by what became of them: `accepted: quantized`, `refused: onnx::not-onnx`.
    pub verdicts: BTreeMap<String, u64>,
    /// Longest time of one mutant, and its index.
    pub slowest: (Duration, u64),
    /// Most memory of one mutant beyond what the limit allows per byte of its file, and its index.
    pub peak: (u64, u64),
    /// Defects with index and mutation.
    pub defects: Vec<Defect>,
}

/// A mutant that the program does not stand.
#[derive(Debug)]
pub struct Defect {
    /// Index of the mutant.
    pub index: u64,
    /// Seed file and mutation.
    pub what: String,
    /// What went wrong.
    pub wrong: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// State of one worker for the watch: when it began a mutant, in milliseconds since the start plus one; 0 when it has none.
struct Worker {
    began: AtomicU64,
    index: AtomicU64,
}

/// How often `progress` is told.
const PROGRESS: Duration = Duration::from_secs(30);

/// Runs the plan. A mutant beyond its time cannot be stopped: `hang` is told of it and should end the program. `progress`
/// is told now and then from which index on a run could go on.
pub fn run(mutator: &Mutator, plan: &Plan, hang: impl Fn(Defect) + Sync, progress: impl Fn(u64) + Sync) -> Summary {
    let (start, next, done) = (Instant::now(), AtomicU64::new(plan.from), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    let workers: Vec<Worker> =
        (0..plan.threads.max(1)).map(|_| Worker { began: AtomicU64::new(0), index: AtomicU64::new(0) }).collect();
    let millis = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut told = Instant::now();
            while !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
                if told.elapsed() >= PROGRESS {
                    told = Instant::now();
                    // Every worker has at most one index in hand.
                    progress(next.load(Ordering::Relaxed).saturating_sub(workers.len() as u64).max(plan.from));
                }
                for worker in &workers {
                    let began = worker.began.load(Ordering::Acquire);
                    let limit = u64::try_from(plan.time.as_millis()).unwrap_or(u64::MAX);
                    if began > 0 && (millis() + 1).saturating_sub(began) > limit {
                        let index = worker.index.load(Ordering::Relaxed);
                        let Mutant { bytes, what } = mutator.mutant(plan.seed, index);
                        hang(Defect { index, what, wrong: format!("takes more than {:?}", plan.time), bytes });
                    }
                }
            }
        });
        let threads: Vec<_> = workers
            .iter()
            .map(|worker| {
                let (next, summary, millis) = (&next, &summary, &millis);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= plan.from.saturating_add(plan.count) {
                            break;
                        }
                        let Mutant { bytes, what } = mutator.mutant(plan.seed, index);
                        worker.index.store(index, Ordering::Relaxed);
                        worker.began.store(millis() + 1, Ordering::Release);
                        memory::start();
                        let began = Instant::now();
                        let verdict = check(&bytes);
                        let (time, peak) = (began.elapsed(), memory::peak());
                        worker.began.store(0, Ordering::Release);
                        summary.lock().unwrap_or_else(|e| e.into_inner()).add(index, what, bytes, verdict, time, peak);
                    }
                })
            })
            .collect();
        for worker in threads {
            // `check` catches what panics; a worker that ended otherwise has lost its mutant only.
            let _ = worker.join();
        }
        done.store(true, Ordering::Relaxed);
    });
    summary.into_inner().unwrap_or_else(|e| e.into_inner())
}

impl Summary {
    fn add(&mut self, index: u64, what: String, bytes: Vec<u8>, verdict: Verdict, time: Duration, peak: u64) {
        self.slowest = self.slowest.max((time, index));
        self.peak = self.peak.max((peak, index));
        let limit = fhe_compiler::onnx::limits::memory(bytes.len() as u64);
        let verdict = if peak > limit {
            Verdict::Defect(format!("holds {peak} bytes, the limit for a file of {} is {limit}", bytes.len()))
        } else {
            verdict
        };
        let key = match &verdict {
            Verdict::Accepted(how) => format!("accepted: {how}"),
            Verdict::Refused(code) => format!("refused: {code}"),
            Verdict::Defect(_) => "defect".into(),
        };
        *self.verdicts.entry(key).or_default() += 1;
        if let Verdict::Defect(wrong) = verdict {
            self.defects.push(Defect { index, what, wrong, bytes });
        }
    }
}
