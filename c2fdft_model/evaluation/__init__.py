"""Comparing results with their ground truth, by protocols that have a name.

Every published number belongs to one protocol: from one to the next, the same images differ by
several dB or several hundredths of SSIM.
"""
