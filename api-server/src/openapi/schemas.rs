//! Schemas of the types that answers are made of.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::program;

/// Collects the schemas that a document refers to.
#[derive(Debug)]
pub(super) struct Schemas(SchemaGenerator);

impl Schemas {
    pub(super) fn new() -> Self {
        // OpenAPI 3.1 takes schemas as JSON Schema 2020-12 has them.
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self(settings.into_generator())
    }

    /// A reference to the schema of a type.
    pub(super) fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }

    /// Every schema that was referred to, and the one of requests, which is no plain type's.
    pub(super) fn into_definitions(mut self) -> Map<String, Value> {
        let mut definitions = self.0.take_definitions(true);
        definitions.insert(program::NAME.to_owned(), program::schema());
        definitions
    }
}
