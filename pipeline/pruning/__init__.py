"""From a trained network to a smaller one: groups, criteria, surgery, recovery."""
