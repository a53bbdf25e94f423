//! A case of the suite on disk: its model, its inputs and the outputs it must give.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fhe_compiler::onnx::protobuf::{Message, ModelProto, TensorProto, ValueInfoProto};

/// Kinds of cases, which are folders of the suite.
pub const KINDS: [&str; 4] = ["node", "pytorch-converted", "pytorch-operator", "simple"];

/// A folder with a model and data.
#[derive(Clone, Debug)]
pub struct Case {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// Name, without the `test_` in front.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// What a case holds.
pub struct Contents {
    /// The model; the shapes of its inputs are those of the data.
    pub model: ModelProto,
    /// One tensor per input that the model has no numbers for.
    pub inputs: Vec<TensorProto>,
    /// One tensor per output.
    pub outputs: Vec<TensorProto>,
}

/// All cases below a folder, by kind and name.
pub fn cases(folder: &Path) -> io::Result<Vec<Case>> {
    let mut found = vec![];
    for kind in KINDS {
        let Ok(entries) = fs::read_dir(folder.join(kind)) else { continue };
        for entry in entries {
            let folder = entry?.path();
            let name = folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            if let Some(name) = name.strip_prefix("test_")
                && folder.join("model.onnx").is_file()
            {
                found.push(Case { kind, name: name.into(), folder });
            }
        }
    }
    found.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(found)
}

impl Case {
    /// `kind/name`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// The model as the suite has it.
    pub fn model(&self) -> Result<ModelProto, String> {
        let bytes = fs::read(self.folder.join("model.onnx")).map_err(|e| e.to_string())?;
        ModelProto::parse_from_bytes(&bytes).map_err(|e| e.to_string())
    }

    /// The model with the data of its first set. Inputs and outputs that are no tensors are an error.
    pub fn contents(&self) -> Result<Contents, String> {
        let mut model = self.model()?;
        let graph = model.graph.mut_or_insert_default();
        let tensor = |v: &ValueInfoProto| v.type_.as_ref().is_some_and(|t| t.has_tensor_type());
        if !graph.input.iter().chain(&graph.output).all(tensor) {
            return Err("its inputs or outputs are sequences, or optional".into());
        }
        let known: Vec<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
        graph.input.retain(|i| !known.contains(&i.name));
        let inputs = self.tensors("input", graph.input.len())?;
        let outputs = self.tensors("output", graph.output.len())?;
        for (info, tensor) in graph.input.iter_mut().zip(&inputs) {
            state_shape(info, &tensor.dims);
        }
        Ok(Contents { model, inputs, outputs })
    }

    fn tensors(&self, what: &str, count: usize) -> Result<Vec<TensorProto>, String> {
        let folder = self.folder.join("test_data_set_0");
        (0..count)
            .map(|i| {
                let bytes = fs::read(folder.join(format!("{what}_{i}.pb"))).map_err(|e| format!("{what} {i}: {e}"))?;
                TensorProto::parse_from_bytes(&bytes).map_err(|e| format!("{what} {i}: {e}"))
            })
            .collect()
    }
}

/// Writes extents into a declaration: the suite leaves some of them open.
fn state_shape(info: &mut ValueInfoProto, dims: &[i64]) {
    let stated = &mut info.type_.mut_or_insert_default().mut_tensor_type().shape.mut_or_insert_default().dim;
    stated.clear();
    for &extent in dims {
        stated.push(Default::default());
        if let Some(dim) = stated.last_mut() {
            dim.set_dim_value(extent);
        }
    }
}
