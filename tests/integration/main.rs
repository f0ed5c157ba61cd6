//! The tests of the whole project, as one binary: each module is a set of claims about one part.

mod bad_checkpoints;
mod batch;
mod bench;
mod checkpoints;
mod exactness;
mod grids;
mod images;
mod images_in;
mod jobs;
mod kernels;
mod links;
mod memory;
mod onnx_checker;
mod pipeline;
mod preview;
mod quality;
mod quality_of_edits;
mod rooms;
mod statistics;
mod support;
mod threads;
mod tiles;
mod trace;
mod travel;
mod variations;
mod videos;
