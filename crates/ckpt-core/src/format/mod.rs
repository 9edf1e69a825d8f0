//! The formats of checkpoints: recognising them by their bytes, and reading what they say.

use serde::{Deserialize, Serialize};

pub mod dcp;
pub mod deep;
pub mod dtype;
mod elements;
mod imports;
mod members;
pub mod pickle;
pub mod safetensors;
pub mod safety;
pub mod sniff;
pub mod torch;
pub mod zip;

/// The container of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// `torch.save` since 1.6.
    TorchZip,
    /// `torch.save` before 1.6.
    TorchLegacy,
    /// `torch.save` before 0.1.10.
    TorchTar,
    /// A `torch.save` archive unpacked into a directory.
    TorchDirectory,
    /// A TorchScript archive.
    TorchScript,
    /// A `torch.export` archive.
    TorchExport,
    /// Shards of `torch.save` archives behind an index.
    TorchSharded,
    /// PyTorch's distributed checkpoint directory.
    TorchDcp,
    /// One safetensors file.
    Safetensors,
    /// Shards of safetensors files behind an index.
    SafetensorsSharded,
    /// A directory that a trainer writes as one checkpoint.
    Directory,
    /// A bare pickle.
    Pickle,
    /// HDF5.
    Hdf5,
    /// A Keras 3 archive.
    Keras,
    /// GGUF.
    Gguf,
    /// ONNX.
    Onnx,
    /// A TensorFlow checkpoint directory.
    Tensorflow,
    /// An Orbax step directory.
    Orbax,
    /// A zip of numpy arrays.
    Npz,
    /// One numpy array.
    Npy,
    /// Flax's MessagePack.
    Msgpack,
    /// Some other zip archive.
    Zip,
    /// Nothing known.
    Unknown,
}

impl Format {
    /// The name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchZip => "torch-zip",
            Self::TorchLegacy => "torch-legacy",
            Self::TorchTar => "torch-tar",
            Self::TorchDirectory => "torch-directory",
            Self::TorchScript => "torch-script",
            Self::TorchExport => "torch-export",
            Self::TorchSharded => "torch-sharded",
            Self::TorchDcp => "torch-dcp",
            Self::Safetensors => "safetensors",
            Self::SafetensorsSharded => "safetensors-sharded",
            Self::Directory => "directory",
            Self::Pickle => "pickle",
            Self::Hdf5 => "hdf5",
            Self::Keras => "keras",
            Self::Gguf => "gguf",
            Self::Onnx => "onnx",
            Self::Tensorflow => "tensorflow",
            Self::Orbax => "orbax",
            Self::Npz => "npz",
            Self::Npy => "npy",
            Self::Msgpack => "msgpack",
            Self::Zip => "zip",
            Self::Unknown => "unknown",
        }
    }

    /// The name in a sentence.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::TorchZip => "a torch.save archive",
            Self::TorchLegacy => "a torch.save stream",
            Self::TorchTar => "a torch.save tar",
            Self::TorchDirectory => "an unpacked torch.save archive",
            Self::TorchScript => "a TorchScript archive",
            Self::TorchExport => "a torch.export archive",
            Self::TorchSharded => "sharded torch.save archives",
            Self::TorchDcp => "a PyTorch distributed checkpoint",
            Self::Safetensors => "a safetensors file",
            Self::SafetensorsSharded => "sharded safetensors files",
            Self::Directory => "a checkpoint directory",
            Self::Pickle => "a pickle",
            Self::Hdf5 => "an HDF5 file, as Keras writes",
            Self::Keras => "a Keras archive",
            Self::Gguf => "a GGUF file",
            Self::Onnx => "an ONNX model",
            Self::Tensorflow => "a TensorFlow checkpoint",
            Self::Orbax => "an Orbax checkpoint",
            Self::Npz => "a numpy archive",
            Self::Npy => "a numpy array",
            Self::Msgpack => "a MessagePack file, as Flax writes",
            Self::Zip => "a zip archive",
            Self::Unknown => "an unknown file",
        }
    }

    /// Whether the format is read here, or only recognised.
    #[must_use]
    pub fn is_inspected(self) -> bool {
        matches!(
            self,
            Self::TorchZip
                | Self::TorchLegacy
                | Self::TorchTar
                | Self::TorchDirectory
                | Self::TorchScript
                | Self::TorchSharded
                | Self::TorchDcp
                | Self::Safetensors
                | Self::SafetensorsSharded
                | Self::Directory
                | Self::Pickle
        )
    }
}
