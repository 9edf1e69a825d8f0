//! Bounds on everything that is read from outside.
//!
//! A checkpoint may come from a stranger's dataset. Each bound is far above what real trainers write
//! and low enough that a hostile file costs bounded memory and time.

/// Longest pickle read into memory, in bytes. A history of 400,000 records takes 26 MB.
pub const PICKLE_BYTES: u64 = 128 << 20;
/// Most objects (containers, globals, calls) that one pickle may build. 60,000 tensors take about 500,000.
pub const PICKLE_NODES: usize = 4 << 20;
/// Most values that the containers of one pickle may hold, all together.
pub const PICKLE_VALUES: usize = 12 << 20;
/// Most values that may wait on the stack of one pickle. Picklers write containers a thousand elements at a time.
pub const PICKLE_STACK: usize = 2 << 20;
/// Most memo slots of one pickle. 400,000 tensors take 3,600,000.
pub const PICKLE_MEMO: usize = 6 << 20;
/// Most calls that one pickle may make. A tensor takes two.
pub const PICKLE_OBJECTS: usize = 1 << 20;
/// Most text that one pickle of protocol 0 may spell with escapes, in bytes.
pub const PICKLE_DECODED_BYTES: usize = 32 << 20;
/// Most marks that may be open, and most memo slots out of order, in one pickle.
pub const PICKLE_MARKS: usize = 1 << 20;
/// Longest text taken from a pickle, in bytes; the rest is cut off. Names and metrics are far shorter.
pub const TEXT_BYTES: usize = 4_096;
/// Most distinct imports of one pickle that are judged; more than these are dangerous as such.
pub const IMPORTS: usize = 100_000;
/// Most sides of a tensor.
pub const DIMENSIONS: usize = 64;
/// Most tensors read from one checkpoint to learn whether they are metrics.
pub const SCALAR_READS: usize = 2_048;
/// Most pickles nested in each other through `torch.storage._load_from_bytes`.
pub const PICKLE_NESTING: usize = 4;
/// Longest zip central directory, in bytes: about 750,000 members.
pub const ZIP_DIRECTORY_BYTES: u64 = 64 << 20;
/// Longest comment after a zip's end record: the format's own limit.
pub const ZIP_COMMENT_BYTES: u64 = 65_535;
/// Longest safetensors header, in bytes: about 300,000 tensors. The reference implementation stops at 100 MB.
pub const SAFETENSORS_HEADER_BYTES: u64 = 32 << 20;
/// Longest index file, in bytes: about 200,000 tensors.
pub const INDEX_BYTES: u64 = 16 << 20;
/// Most tensors that an index file may name.
pub const INDEX_ENTRIES: usize = 500_000;
/// Most files of one directory checkpoint that are looked into for pickles.
pub const JUDGED_FILES: usize = 4_096;
/// Longest JSON document (index files, `trainer_state.json`, histories), in bytes.
pub const JSON_BYTES: u64 = 64 << 20;
/// Largest storage that is read to learn a metric held in a tensor; larger ones are not scalars.
pub const SCALAR_MEMBER_BYTES: u64 = 64 << 10;
/// Most metrics kept from one checkpoint.
pub const METRICS: usize = 512;
/// Most top-level keys kept from one checkpoint; further ones are counted, not named.
pub const KEYS: usize = 100_000;
/// Longest key or metric name kept, in bytes.
pub const NAME_BYTES: usize = 1_024;
/// Most globals listed from one checkpoint.
pub const GLOBALS: usize = 10_000;
/// Most values visited while one part of a state is searched for tensors.
pub const WALK_VALUES: usize = 32 << 20;
/// Deepest nesting under which metrics are looked for.
pub const METRIC_DEPTH: usize = 4;
/// Most pickled items of one distributed checkpoint that are read; tensors are not among them.
pub const DCP_ITEMS: usize = 100_000;
/// First read of a stream whose pickles have no announced length; it doubles up to [`PICKLE_BYTES`].
pub const STREAM_WINDOW: usize = 64 << 10;
/// Most files of one directory checkpoint.
pub const MEMBERS: usize = 100_000;
/// Deepest level inside one directory checkpoint.
pub const MEMBER_DEPTH: usize = 6;
/// Unit of streaming reads, in bytes.
pub const CHUNK_BYTES: usize = 1 << 20;
