"""A trained model as a folder for the Hub: weights, code, an endpoint's handler, and a card of what was measured."""
