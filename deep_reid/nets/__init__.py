"""Networks that map an image to a feature vector of unit length."""
