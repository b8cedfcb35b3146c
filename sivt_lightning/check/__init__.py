"""A look at photos before a training: what a careful colleague would say of them."""
