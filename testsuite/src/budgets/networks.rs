//! The networks that contracts are compared on, with their rows.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use fhe_compiler::failure::Failure;
use fhe_compiler::{data, onnx};
use fhe_ir::{Graph, client};
use ndarray::ArrayD;

/// Where rows are.
#[derive(Clone, Copy, Debug)]
enum Folder {
    /// A folder below `data/` of the folder of models.
    Public(&'static str),
    /// A folder that `prepare-data` writes.
    Prepared(&'static str),
}

/// A network with rows to calibrate and to measure it on.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// What it is called here.
    pub name: &'static str,
    /// The model below `data/`.
    model: &'static str,
    folder: Folder,
    calibration: &'static str,
    x: &'static str,
    y: &'static str,
    /// Rows that circuits are simulated on; all when absent.
    rows: Option<usize>,
}

/// The networks, from the smallest; the last one is compared on demand.
pub const NETWORKS: [Network; 5] = [
    Network {
        name: "arrhythmia",
        model: "mitbih-32/mitbih_mlp.onnx",
        folder: Folder::Public("mitbih-32"),
        calibration: "Arryth_MITBIH_train_X.npy",
        x: "Arryth_MITBIH_test_X.npy",
        y: "Arryth_MITBIH_test_y.npy",
        rows: None,
    },
    Network {
        name: "lenet",
        model: "heir-mnist/heir_lenet5_mnist.onnx",
        folder: Folder::Prepared("mnist-lenet"),
        calibration: "calibration_x.npy",
        x: "test_x.npy",
        y: "test_y.npy",
        rows: Some(2000),
    },
    Network { name: "resnet8", model: "mlperf-tiny/ic_resnet8.onnx", folder: Folder::Prepared("cifar10-raw"), ..CIFAR },
    Network {
        name: "resnet20",
        model: "resnet-cifar10/resnet20_bnfolded.onnx",
        folder: Folder::Prepared("cifar10-resnet"),
        ..CIFAR
    },
    Network {
        name: INT8,
        model: "mlperf-tiny/ic_resnet8_int8_qdq.onnx",
        folder: Folder::Prepared("cifar10-int8"),
        ..CIFAR
    },
];

/// Name of the network that is compared on demand: its integers are its own, not those that were asked for.
pub const INT8: &str = "resnet8-int8";

const CIFAR: Network = Network {
    name: "",
    model: "",
    folder: Folder::Prepared(""),
    calibration: "calibration_x.npy",
    x: "test1000_x.npy",
    y: "test1000_y.npy",
    rows: Some(1000),
};

/// A network that was read.
pub struct Loaded {
    /// The float model.
    pub model: Graph,
    /// Calibration rows.
    pub calibration: Vec<ArrayD<f32>>,
    /// Rows to measure on.
    pub evaluate: Vec<ArrayD<f32>>,
    /// Their classes.
    pub labels: Vec<usize>,
}

impl Network {
    /// The network of a name.
    pub fn named(name: &str) -> Option<Self> {
        NETWORKS.into_iter().find(|n| n.name == name)
    }

    /// Reads the model and its rows, the first `rows` of them.
    ///
    /// # Errors
    /// When a file is missing, damaged, or does not fit the model.
    pub fn load(&self, public: &Path, prepared: &Path, rows: Option<NonZeroUsize>) -> Result<Loaded, Failure> {
        let folder: PathBuf = match self.folder {
            Folder::Public(name) => public.join("data").join(name),
            Folder::Prepared(name) => prepared.join(name),
        };
        let model = onnx::read_file(&public.join("data").join(self.model), &onnx::ReadOptions::default())?;
        let read = |name: &str| -> Result<ArrayD<f32>, data::DataError> {
            let path = folder.join(name);
            let x = data::read_npy(&path)?;
            if x.shape().first().is_none_or(|rows| *rows == 0) {
                return Err(data::DataError::NoRows { path });
            }
            client::check_rows(&model, 0, &x).map_err(|source| data::DataError::Rows { path, source })
        };
        let (calibration, evaluate) = (read(self.calibration)?, read(self.x)?);
        let all = evaluate.shape()[0];
        let mut labels = data::read_labels(&folder.join(self.y), all)?;
        let rows = rows.map(NonZeroUsize::get).or(self.rows).unwrap_or(all).min(all);
        labels.truncate(rows);
        let evaluate = vec![data::first_rows(&evaluate, rows)];
        Ok(Loaded { model, calibration: vec![calibration], evaluate, labels })
    }
}
