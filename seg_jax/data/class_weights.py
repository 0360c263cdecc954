"""Class frequencies, and the class weights of the loss that papers derive from them."""

import numpy as np

from seg_jax.data.validate.check_report import ClassStatistics

ENET_C = 1.02  # Paszke et al. 2016, section 5.2: weights between 1.4 and 50


def median_frequency_weights(pixels: np.ndarray, image_pixels: np.ndarray) -> np.ndarray:
    """Return median(freq) / freq_c, float64 [k]; nan for a class that does not occur.

    freq_c is the number of pixels of class c over the number of pixels of the images that contain
    c (Eigen & Fergus, ICCV 2015, section 6.3.2); the median is over the classes that occur.

    Args:
      pixels: of each class, [k].
      image_pixels: of all images that contain the class, [k].
    """
    occurs = pixels > 0
    frequency = np.where(occurs, pixels / np.maximum(image_pixels, 1), np.nan)
    return np.median(frequency[occurs]) / frequency if occurs.any() else frequency


def enet_weights(share: np.ndarray) -> np.ndarray:
    """Return 1 / ln(1.02 + p_c), float64 [k] (Paszke et al. 2016, ENet, section 5.2).

    Args:
      share: p_c, of the pixels that belong to class c, [k].
    """
    return 1 / np.log(ENET_C + share)


def statistics(classes: tuple[str, ...], pixels: np.ndarray) -> tuple[ClassStatistics, ...]:
    """Return the statistics of every class, and of void as the last entry.

    Args:
      classes: names of k classes.
      pixels: number of pixels by image and class, void last, int64 [n k+1].
    """
    totals = pixels.sum(0)
    image_pixels = ((pixels > 0) * pixels.sum(1, keepdims=True)).sum(0)
    weights = median_frequency_weights(totals[:-1], image_pixels[:-1])
    share = totals / max(1, totals[:-1].sum())
    share[-1] = totals[-1] / max(1, totals.sum())
    enet = enet_weights(share)
    return tuple(
        ClassStatistics(
            name=name,
            pixels=int(totals[class_id]),
            share=float(share[class_id]),
            images=int((pixels[:, class_id] > 0).sum()),
            image_pixels=int(image_pixels[class_id]),
            weight=None if np.isnan(weight) else float(weight),
            enet_weight=float(enet[class_id]),
        )
        for class_id, (name, weight) in enumerate(
            zip((*classes, "void"), (*weights, np.nan), strict=True)
        )
    )


def with_void(classes: tuple[ClassStatistics, ...], void: ClassStatistics) -> np.ndarray:
    """Return the median-frequency weights, float64 [k], with void counted as one more class in the
    median, as in SegNet's release.
    """
    everything = (*classes, void)
    return median_frequency_weights(
        np.array([entry.pixels for entry in everything]),
        np.array([entry.image_pixels for entry in everything]),
    )[:-1]
