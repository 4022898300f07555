//! `calotype mcp`: the API as tools of an assistant, by the Model Context Protocol on standard input and output.
//!
//! Must not write anything else to standard output: it is the protocol's. Must not do more than the key may: the API judges, and
//! its words are what a tool answers when it refuses.

mod delivery;
mod medium;
mod tools;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use rmcp::ServiceExt;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::stdio_pipes;

use self::delivery::Delivery;
use self::tools::Tools;
use crate::api::{Api, ApiArguments};

/// Longest message that is read, in bytes; longer ones are left out.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Arguments of `calotype mcp`.
#[derive(Args)]
#[command(
    after_help = "The API key comes from CALOTYPE_API_KEY, and what signs URLs from CALOTYPE_SIGNING_KEY=kid:secret with \
    CALOTYPE_TENANT_ID, or both from credentials.json in the state folder, where `calotype up` keeps them."
)]
pub struct McpArguments {
    #[command(flatten)]
    api: ApiArguments,
    /// What delivery URLs begin with, for sources that are no uploads; the API tells it of those.
    #[arg(long, env = "CALOTYPE_DELIVERY_URL", value_name = "URL")]
    delivery_url: Option<String>,
    /// The tenant's name in URLs, for sources that are no uploads.
    #[arg(long, env = "CALOTYPE_TENANT")]
    tenant: Option<String>,
    /// The tenant's unchanging id, for a signing key out of the environment.
    #[arg(long, env = "CALOTYPE_TENANT_ID", value_name = "ID")]
    tenant_id: Option<String>,
}

impl McpArguments {
    fn data(&self) -> &PathBuf {
        &self.api.data
    }
}

/// Serves until standard input ends.
pub fn run(arguments: &McpArguments) -> anyhow::Result<()> {
    let tools = Tools::new(Api::of(&arguments.api)?, Delivery::of(arguments)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let (input, output) = stdio_pipes();
        let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(MESSAGE_BYTES_MAX);
        let service = tools.serve(transport).await.context("the other end does not speak the protocol")?;
        service.waiting().await?;
        Ok(())
    });
    // A read of standard input that nobody ends must not keep the process.
    runtime.shutdown_background();
    served
}
