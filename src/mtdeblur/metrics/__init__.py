"""Measures of pictures: PSNR, the named SSIM conventions and spectra."""
