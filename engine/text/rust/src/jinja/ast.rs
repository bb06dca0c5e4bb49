//! A parsed template.

use std::sync::Arc;

/// A variable, by its place in the template's table of names.
pub type Name = u32;

pub enum Constant {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
}

pub enum Expr {
    Constant(Constant),
    Name(Name),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Arc<str>),
    Item(Box<Expr>, Box<Expr>),
    /// Start, stop and step; only in an item.
    Slice([Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Arguments),
    /// Without a value where the body of a block comes in.
    Filter(Option<Box<Expr>>, Arc<str>, Arguments),
    Test(Box<Expr>, Arc<str>, Arguments),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Conditional {
        test: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

#[derive(Default)]
pub struct Arguments {
    pub positional: Vec<Expr>,
    pub named: Vec<(Arc<str>, Expr)>,
    /// `*args` and `**kwargs`
    pub star: Option<Box<Expr>>,
    pub double_star: Option<Box<Expr>>,
}

pub enum Target {
    Name(Name),
    /// `ns.name`
    Member(Name, Arc<str>),
    Tuple(Vec<Target>),
}

pub struct Macro {
    pub name: Arc<str>,
    pub parameters: Vec<(Name, Arc<str>)>,
    /// Of the last parameters.
    pub defaults: Vec<Expr>,
    pub body: Vec<Stmt>,
    /// Which of the names caller, varargs and kwargs the body uses.
    pub special: [Option<Name>; 3],
}

pub struct For {
    pub target: Target,
    pub iterable: Expr,
    pub test: Option<Expr>,
    pub recursive: bool,
    /// Its body speaks of `loop`.
    pub uses_loop: bool,
    pub body: Vec<Stmt>,
    pub otherwise: Vec<Stmt>,
}

pub struct Stmt {
    pub line: usize,
    pub kind: StmtKind,
}

pub enum StmtKind {
    Data(Arc<str>),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    For(Box<For>),
    Set(Target, Expr),
    SetBlock {
        target: Target,
        filter: Option<Expr>,
        body: Vec<Stmt>,
    },
    With(Vec<(Target, Expr)>, Vec<Stmt>),
    Macro(Name, Box<Macro>),
    CallBlock {
        call: (Expr, Arguments),
        caller: Box<Macro>,
    },
    FilterBlock(Expr, Vec<Stmt>),
    /// Its own scope over that of the template, or over the scope around it.
    Block {
        body: Vec<Stmt>,
        scoped: bool,
    },
    Break,
    Continue,
    /// What jinja2 parses and transformers' environment cannot do, with why.
    Impossible(&'static str),
}
