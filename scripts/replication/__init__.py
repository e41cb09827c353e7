"""The paper's ablations at a scale that fits: small networks, real photographs, several seeds."""
