//! What the API asks of the engine behind it.

use query::{
    BottleneckAnswer, BottleneckQuery, CriticalPathAnswer, CriticalPathQuery, Incomplete, LatencyAnswer,
    LatencyQuery, OperationMetrics, OperationRow, QueryError, ServiceRow, StatusAnswer, TraceAnswer,
    TracePage, TraceSearch, TraceSearchAnswer, Window,
};
use trace_model::SpanKind;

/// Rows, and why they may not be all.
pub type Rows<T> = (Vec<T>, Vec<Incomplete>);

/// The questions that the routes put. [`query::Engine`] answers them; tests put a fake in its place.
///
/// All methods may block: they are called on threads that are meant for that.
pub trait Backend: Send + Sync + 'static {
    /// The services that were seen, in a window or at all.
    fn services(&self, window: Option<Window>) -> Result<Rows<ServiceRow>, QueryError>;
    /// The operations of a service; none if the service is unknown.
    fn operations(&self, service: &str, kind: Option<SpanKind>) -> Result<Rows<OperationRow>, QueryError>;
    /// Traces that match.
    fn search(&self, search: &TraceSearch) -> Result<TraceSearchAnswer, QueryError>;
    /// A whole trace, or a page of a large one.
    fn trace(&self, page: &TracePage) -> Result<Option<TraceAnswer>, QueryError>;
    /// The critical path of a trace.
    fn critical_path(&self, query: &CriticalPathQuery) -> Result<Option<CriticalPathAnswer>, QueryError>;
    /// Latency percentiles.
    fn latency(&self, query: &LatencyQuery) -> Result<LatencyAnswer, QueryError>;
    /// What critical paths are made of.
    fn bottlenecks(&self, query: &BottleneckQuery) -> Result<BottleneckAnswer, QueryError>;
    /// The state of the store.
    fn status(&self) -> StatusAnswer;
    /// Calls and latency by operation, for `/metrics`.
    fn operation_metrics(&self) -> Vec<OperationMetrics>;
    /// Whether requests can be answered; the reason if not.
    fn ready(&self) -> Result<(), String>;
}
