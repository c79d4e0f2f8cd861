//! The engine is a backend.

use query::{
    BottleneckAnswer, BottleneckQuery, CriticalPathAnswer, CriticalPathQuery, Engine, LatencyAnswer,
    LatencyQuery, OperationMetrics, OperationRow, QueryError, ServiceRow, StatusAnswer, TraceAnswer,
    TracePage, TraceSearch, TraceSearchAnswer, Window,
};
use trace_model::SpanKind;

use crate::backend::{Backend, Rows};

impl Backend for Engine {
    fn services(&self, window: Option<Window>) -> Result<Rows<ServiceRow>, QueryError> {
        Self::services(self, window)
    }

    fn operations(&self, service: &str, kind: Option<SpanKind>) -> Result<Rows<OperationRow>, QueryError> {
        Self::operations(self, service, kind)
    }

    fn search(&self, search: &TraceSearch) -> Result<TraceSearchAnswer, QueryError> {
        Self::search(self, search)
    }

    fn trace(&self, page: &TracePage) -> Result<Option<TraceAnswer>, QueryError> {
        self.trace_page(page)
    }

    fn critical_path(&self, query: &CriticalPathQuery) -> Result<Option<CriticalPathAnswer>, QueryError> {
        Self::critical_path(self, query)
    }

    fn latency(&self, query: &LatencyQuery) -> Result<LatencyAnswer, QueryError> {
        Self::latency(self, query)
    }

    fn bottlenecks(&self, query: &BottleneckQuery) -> Result<BottleneckAnswer, QueryError> {
        Self::bottlenecks(self, query)
    }

    fn status(&self) -> StatusAnswer {
        Self::status(self)
    }

    fn operation_metrics(&self) -> Vec<OperationMetrics> {
        Self::operation_metrics(self)
    }

    fn ready(&self) -> Result<(), String> {
        Self::ready(self)
    }
}
