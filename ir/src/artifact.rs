//! The compiled circuit as one file.
//!
//! A safetensors file: long lists of weights, tables and facts as tensors (`reals.<digest>`, `ints.<digest>`), all else
//! as JSON with sorted keys under the one metadata key `fhe`: version, listing, report, checksum. The same artifact is
//! always the same bytes, and only those bytes are read back. Files are untrusted: [`Artifact::from_bytes`] never
//! panics.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use miette::Diagnostic;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::graph::{Graph, Phase};
use crate::text::{self, MAX_NUMBERS, ParseError, Printed, Sidecar};
use crate::verify::VerifyError;

/// Version of the file's layout.
pub const VERSION: u64 = 2;

/// Greatest size of a file in bytes.
pub const MAX_BYTES: usize = 1 << 32;

/// The metadata key.
const KEY: &str = "fhe";

/// Bytes in front of the header of a safetensors file: its length.
const LENGTH_BYTES: usize = 8;

/// A compiled circuit and what was said about its compilation.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// The circuit.
    pub circuit: Graph,
    /// Statistics and choices, for readers; nothing is executed from it.
    pub report: Value,
}

/// A file that is not an artifact of this version, whole and unaltered.
#[derive(Debug, Error, Diagnostic)]
pub enum ArtifactError {
    /// Too many bytes or numbers.
    #[error("the artifact has more than {limit} {what}")]
    #[diagnostic(code("artifact::too-large"), help("compile a smaller network, or split it"))]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// Greatest number.
        limit: usize,
    },
    /// The container cannot be read.
    #[error("the file is not an artifact: {reason}")]
    #[diagnostic(code("artifact::not-an-artifact"), help("give the file that the compiler wrote, complete"))]
    NotAnArtifact {
        /// What is missing or broken.
        reason: String,
    },
    /// Another layout.
    #[error("the artifact has version {got}, allowed: {VERSION}")]
    #[diagnostic(code("artifact::version"), help("compile the model again with this version"))]
    Version {
        /// Version in the file.
        got: String,
    },
    /// The content is not what was written.
    #[error("the artifact was altered or truncated: {reason}")]
    #[diagnostic(code("artifact::altered"), help("copy the file again from where it was compiled"))]
    Altered {
        /// The check that does not hold.
        reason: &'static str,
    },
    /// The listing is not a graph.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Listing(#[from] ParseError),
    /// The graph breaks a rule of the verifier.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Verify(#[from] VerifyError),
    /// The graph is not a circuit.
    #[error("the artifact holds a graph in phase {got}, allowed: circuit")]
    #[diagnostic(code("artifact::phase"), help("an artifact is written after the last pass"))]
    Phase {
        /// Phase of the graph.
        got: Phase,
    },
    /// A parameter set that no key may have.
    #[error("parameter set !p{index}: {problem}")]
    #[diagnostic(code("artifact::params"), help("do not use the file: its parameters are not those of the compiler"))]
    Params {
        /// Number of the set.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl Artifact {
    /// The file.
    ///
    /// # Panics
    /// When listing and report are too large for the header of a safetensors file (100 MB); listings within the
    /// limits of the parser are far smaller.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Printed { text, sidecar } = text::print(&self.circuit);
        let tensors = tensors(&sidecar);
        let report = sorted(&self.report);
        let checksum = checksum(&text, &report, &tensors);
        let content =
            sorted(&json!({ "version": VERSION, "listing": text, "report": report, "checksum": checksum.to_string() }));
        let views = tensors.iter().map(|(name, t)| {
            let view = TensorView::new(t.dtype, vec![t.count()], &t.bytes);
            (name, view.expect("the shape is that of the bytes"))
        });
        let metadata = HashMap::from([(KEY.to_owned(), content.to_string())]);
        safetensors::serialize(views, Some(metadata)).expect("the header is within the limit of the format")
    }

    /// Reads a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        if bytes.len() > MAX_BYTES {
            return Err(ArtifactError::TooLarge { what: "bytes", limit: MAX_BYTES });
        }
        let (content, tensors) = container(bytes)?;
        let field = |name: &str| content.get(name).ok_or_else(|| broken(format!("there is no {name}")));
        let version = field("version")?;
        if version.as_u64() != Some(VERSION) {
            return Err(ArtifactError::Version { got: version.to_string() });
        }
        let listing = field("listing")?.as_str().ok_or_else(|| broken("the listing is not a string"))?;
        let report = field("report")?;
        if field("checksum")?.as_str() != Some(checksum(listing, report, &tensors).as_str()) {
            return Err(ArtifactError::Altered { reason: "the checksum is another" });
        }

        let circuit = text::parse(listing, &sidecar(&tensors)?)?;
        if circuit.phase != Phase::Circuit {
            return Err(ArtifactError::Phase { got: circuit.phase });
        }
        for (index, set) in circuit.params.iter().enumerate() {
            set.check().map_err(|problem| ArtifactError::Params { index, problem })?;
        }
        crate::verify::verify(&circuit)?;
        let artifact = Self { circuit, report: report.clone() };
        if artifact.to_bytes() != bytes {
            return Err(ArtifactError::Altered { reason: "the content is not in the form it is written in" });
        }
        Ok(artifact)
    }

    /// blake3 of the file.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.to_bytes()).as_bytes()
    }
}

/// A digest in hexadecimal.
pub fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}

/// The lists of a file, by name.
type Tensors<'b> = BTreeMap<String, Tensor<'b>>;

/// One list as it lies in the file.
struct Tensor<'b> {
    dtype: Dtype,
    bytes: Cow<'b, [u8]>,
}

impl Tensor<'_> {
    fn count(&self) -> usize {
        self.bytes.len() * 8 / self.dtype.bitsize()
    }

    /// The numbers, each from its `N` little-endian bytes.
    fn numbers<T, const N: usize>(&self, read: fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
    }
}

/// The lists of a sidecar, integers in the smallest type that holds them all.
fn tensors(sidecar: &Sidecar) -> Tensors<'static> {
    let reals = sidecar.all_reals().map(|(digest, list)| {
        let bytes: Vec<u8> = list.iter().flat_map(|x| x.to_le_bytes()).collect();
        (format!("reals.{digest}"), Tensor { dtype: Dtype::F32, bytes: bytes.into() })
    });
    let ints = sidecar.all_ints().map(|(digest, list)| {
        let fits = |lo: i64, hi: i64| list.iter().all(|x| (lo..=hi).contains(x));
        let (dtype, size) = if fits(i8::MIN.into(), i8::MAX.into()) {
            (Dtype::I8, 1)
        } else if fits(i16::MIN.into(), i16::MAX.into()) {
            (Dtype::I16, 2)
        } else if fits(i32::MIN.into(), i32::MAX.into()) {
            (Dtype::I32, 4)
        } else {
            (Dtype::I64, 8)
        };
        // In two's complement the low bytes of an integer that fits are the smaller integer.
        let bytes: Vec<u8> = list.iter().flat_map(|x| x.to_le_bytes().into_iter().take(size)).collect();
        (format!("ints.{digest}"), Tensor { dtype, bytes: bytes.into() })
    });
    reals.chain(ints).collect()
}

/// The lists that tensors hold.
fn sidecar(tensors: &Tensors<'_>) -> Result<Sidecar, ArtifactError> {
    if tensors.values().map(Tensor::count).sum::<usize>() > MAX_NUMBERS {
        return Err(ArtifactError::TooLarge { what: "numbers", limit: MAX_NUMBERS });
    }
    let mut sidecar = Sidecar::new();
    for (name, tensor) in tensors {
        let known = match (name.split_once('.'), tensor.dtype) {
            (Some(("reals", digest)), Dtype::F32) => sidecar.restore_reals(digest, tensor.numbers(f32::from_le_bytes)),
            (Some(("ints", digest)), dtype) => {
                let list = match dtype {
                    Dtype::I8 => tensor.numbers(|b| i8::from_le_bytes(b).into()),
                    Dtype::I16 => tensor.numbers(|b| i16::from_le_bytes(b).into()),
                    Dtype::I32 => tensor.numbers(|b| i32::from_le_bytes(b).into()),
                    Dtype::I64 => tensor.numbers(i64::from_le_bytes),
                    _ => vec![],
                };
                sidecar.restore_ints(digest, list)
            }
            _ => false,
        };
        if !known {
            return Err(ArtifactError::Altered { reason: "a tensor is not the list that its name says" });
        }
    }
    Ok(sidecar)
}

/// blake3 over listing, report and tensors, each with its length.
fn checksum(listing: &str, report: &Value, tensors: &Tensors<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(listing.as_bytes());
    add(sorted(report).to_string().as_bytes());
    for (name, Tensor { dtype, bytes }) in tensors {
        add(name.as_bytes());
        add(dtype.to_string().as_bytes());
        add(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// The same JSON with the keys of all objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Content and tensors of a safetensors file.
fn container(bytes: &[u8]) -> Result<(Map<String, Value>, Tensors<'_>), ArtifactError> {
    check_offsets(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| broken(e.to_string()))?;
    let metadata = header.metadata().as_ref().filter(|m| m.len() == 1).and_then(|m| m.get(KEY));
    let metadata = metadata.ok_or_else(|| broken("its metadata is not the one key `fhe`"))?;
    let content = serde_json::from_str(metadata).map_err(|e| broken(e.to_string()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| broken(e.to_string()))?;
    let tensors = file
        .iter()
        .map(|(name, view)| (name.to_owned(), Tensor { dtype: view.dtype(), bytes: Cow::Borrowed(view.data()) }));
    Ok((content, tensors.collect()))
}

/// Refuses tensors that end behind the file: the crate that reads them adds up their ends without a check.
fn check_offsets(bytes: &[u8]) -> Result<(), ArtifactError> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        data_offsets: (u64, u64),
    }
    let length = bytes.first_chunk().map(|b| u64::from_le_bytes(*b)).and_then(|n| usize::try_from(n).ok());
    let header = length.and_then(|n| bytes.get(LENGTH_BYTES..)?.get(..n)).ok_or_else(|| broken("it has no header"))?;
    let entries: HashMap<String, Entry> = serde_json::from_slice(header).map_err(|e| broken(e.to_string()))?;
    let end = bytes.len() as u64;
    if entries.values().any(|e| e.data_offsets.0 > end || e.data_offsets.1 > end) {
        return Err(broken("a tensor ends behind the file"));
    }
    Ok(())
}

fn broken(reason: impl Into<String>) -> ArtifactError {
    ArtifactError::NotAnArtifact { reason: reason.into() }
}
