//! Metrics of Burn's learner, stored for the table and the plot, and a renderer without output.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

type Key = (String, usize, String);

/// A metric's values in an epoch, and their mean.
#[derive(Default)]
struct EpochValues {
    entries: Vec<NumericEntry>,
    mean: f64,
}

/// The values of each metric, by name, epoch and split. Clones share the values.
#[derive(Clone, Default)]
pub struct MetricHistory {
    names: HashMap<MetricId, String>,
    values: Arc<Mutex<HashMap<Key, EpochValues>>>,
}

impl MetricHistory {
    /// The mean of a metric over an epoch.
    pub fn mean(&self, name: &str, epoch: usize, split: &Split) -> Option<f64> {
        let key = (name.to_owned(), epoch, split.to_string());
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(&key).map(|values| values.mean)
    }
}

impl MetricLogger for MetricHistory {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in update.entries_numeric {
            let Some(name) = self.names.get(&metric.entry.metric_id) else {
                continue;
            };
            let key = (name.clone(), epoch, split.to_string());
            let epoch = values.entry(key).or_default();
            epoch.entries.extend(metric.numeric_entry);
            if let Some(running) = metric.running_entry {
                epoch.mean = running.current();
            }
        }
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        let key = (name.to_owned(), epoch, split.to_string());
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let found = values.get(&key).map(|values| values.entries.clone());
        found.ok_or_else(|| format!("no {name} in epoch {epoch}"))
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        let name = definition.name.to_string();
        self.names.insert(definition.metric_id, name);
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}

/// A renderer that draws nothing, for many short trainings. Without it Burn shows its dashboard.
pub struct SilentRenderer;

impl MetricsRendererTraining for SilentRenderer {
    fn update_train(&mut self, _state: MetricState) {}
    fn update_valid(&mut self, _state: MetricState) {}
}

impl MetricsRendererEvaluation for SilentRenderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl TrainingProgressLogger for SilentRenderer {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _epoch: usize) {}
    fn start_split(&mut self, _split: &str, _total_items: usize) {}
    fn update_split(&mut self, _items_processed: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _event: String) {}
}

impl EvaluationProgressLogger for SilentRenderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}
    fn start_test(&mut self, _name: &str, _total_items: usize) {}
    fn update_test_progress(&mut self, _items_processed: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRenderer for SilentRenderer {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _definition: MetricDefinition) {}
}
