//! Looks for constructs in a syntax tree, without recursion: a tree can be deeper than any stack.

use ruff_python_ast::visitor::source_order::{SourceOrderVisitor, walk_decorator};
use ruff_python_ast::{
    AnyNodeRef, Decorator, Expr, Identifier, InterpolatedStringElement, Mod, Pattern, Stmt, StmtImport,
    StmtImportFrom,
};
use ruff_text_size::Ranged;

use crate::Places;
use crate::finding::Construct;

/// Adds what stands in a program.
pub fn search(program: &Mod, places: &mut Places) {
    let mut search = Search {
        places,
        waiting: vec![program.into()],
    };
    while let Some(node) = search.waiting.pop() {
        search.look_at(node);
        node.visit_source_order(&mut search);
    }
}

struct Search<'a> {
    places: &'a mut Places,
    waiting: Vec<AnyNodeRef<'a>>,
}

impl Search<'_> {
    fn look_at(&mut self, node: AnyNodeRef<'_>) {
        match node {
            AnyNodeRef::StmtImport(StmtImport { names, .. }) => {
                for alias in names {
                    self.add(Construct::of_import(&alias.name), node);
                }
            }
            // With dots before it, it is a module of the program's own package.
            AnyNodeRef::StmtImportFrom(StmtImportFrom {
                module: Some(module),
                level: 0,
                ..
            }) => self.add(Construct::of_import(module), node),
            AnyNodeRef::ExprCall(call) => self.call(&call.func),
            AnyNodeRef::ExprName(name) => self.add(Construct::of_name(&name.id), node),
            _ => {}
        }
    }

    fn call(&mut self, called: &Expr) {
        if let Expr::Name(name) = called {
            self.add(Construct::of_call(&name.id), name);
        }
    }

    fn add(&mut self, construct: Option<Construct>, place: impl Ranged) {
        if let Some(construct) = construct {
            self.places.add(construct, place.start());
        }
    }
}

/// Only the kinds of nodes that can stand below others of their kind wait for their turn; what hangs between two of them
/// has a depth that the grammar bounds.
impl<'a> SourceOrderVisitor<'a> for Search<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        self.waiting.push(statement.into());
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        self.waiting.push(expression.into());
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        self.waiting.push(pattern.into());
    }

    fn visit_interpolated_string_element(&mut self, element: &'a InterpolatedStringElement) {
        self.waiting.push(element.into());
    }

    fn visit_decorator(&mut self, decorator: &'a Decorator) {
        // Python calls it, without the brackets.
        self.call(&decorator.expression);
        walk_decorator(self, decorator);
    }

    fn visit_identifier(&mut self, identifier: &'a Identifier) {
        self.add(Construct::of_name(identifier), identifier);
    }
}
