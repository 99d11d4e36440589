//! Generates the code from the `.proto` files with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["common.proto", "control.proto", "data.proto", "client.proto"];
    let files = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .type_attribute(".tidemill.client.v1", "#[derive(serde::Serialize)]")
        .type_attribute(".tidemill.common.v1", "#[derive(serde::Serialize)]")
        .compile_fds(files)?;
    for proto in protos {
        println!("cargo:rerun-if-changed=proto/{proto}");
    }
    Ok(())
}
