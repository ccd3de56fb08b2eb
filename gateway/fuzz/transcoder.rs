use std::{path::Path, sync::LazyLock};

use gateway::fuzz::Transcoder;

/// The contract and the protos of the gateway's own tests.
pub static TRANSCODER: LazyLock<Transcoder> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = protox::Compiler::new([root.join("../tests/proto"), root.join("../../proto")]);
    let mut compiler = compiler.expect("folders");
    compiler.include_imports(true).open_file("test/v1/echo.proto").expect("a good file");
    Transcoder::new(&compiler.encode_file_descriptor_set())
});
