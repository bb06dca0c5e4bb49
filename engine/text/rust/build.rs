//! Generates the C++ side of the bridge and compiles it into the static library, so that CMake needs the header only.

fn main() {
    cxx_build::bridge("src/lib.rs")
        .std("c++17")
        .compile("causeway_text_bridge");
    println!("cargo:rerun-if-changed=src/lib.rs");
}
