//! The migrations are part of the program: a file that is new has it built anew.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
