//! An example of an app, and every widget at every size with any text.

mod example;
mod random;
mod widgets;
