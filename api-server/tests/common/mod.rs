//! What the tests of the router have in common.

use std::sync::Arc;

use codeexec_api::app::App;
use codeexec_api::auth::Authenticator;
use codeexec_api::backend::Backend;
use codeexec_api::http::receive::Room;
use codeexec_api::http::streams::Streams;
use codeexec_api::limits::Limits;
use codeexec_api::metrics::Metrics;
use codeexec_api::settings::Settings;
use codeexec_api::usage::{Source, Usage};
use codeexec_policy::Policy;
use tokio_util::sync::CancellationToken;

/// A server's parts around a backend, with bounds and limits as these settings say: everybody is let in, every
/// program may be said, and nothing is described.
pub fn app(backend: Arc<dyn Backend>, settings: &Settings) -> App {
    App {
        backend,
        limits: Limits::alone(settings),
        auth: Arc::new(Authenticator::anonymous()),
        usage: Arc::new(Usage::new(Source::Ledger(Arc::default()), 0.0)),
        metrics: Arc::new(Metrics::new(false)),
        docs: None,
        playground: false,
        policy: Policy::Off,
        http: settings.http.clone(),
        room: Room::default(),
        streams: Streams::at_most(settings.http.max_streams),
        stopping: CancellationToken::new(),
    }
}
