"""The kinds of signals of a drill: plain ones, keyed ones that have an order, and scheduled ones that are due later."""
